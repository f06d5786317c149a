"""The packets of video files: which frames can be cut out without encoding them again, and putting cuts together.

Frames ``start`` to ``stop`` can be copied where their packets are one contiguous run in the file, and the first of
them is shown first and needs no packet before it. So nothing that is copied refers to anything that is not, and
every frame comes out as the decoder gives it from the whole file. B-frames need no further rule, nor do groups of
pictures that refer to the one before: those are no such runs.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.media.entry import is_entry
from vla_data.media.mp4 import FORMAT, open_video
from vla_data.media.video import BITEXACT, rate
from vla_data.safety.files import damage, state_of

_NAMES: Final = {"libdav1d": "av1", "libaom-av1": "av1"}  # decoder -> codec, where it has another name
_IN_BAND: Final = ("avc3", "dvav", "dva1")
"""Tags of tracks whose parameter sets are in packets: those of a cut may stand before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Packets:
    """The packets of a video file, in the order in which they lie there.

    Attributes:
        codec: ``av1``, ``h264`` or another of FFmpeg's names.
        pixel_format: FFmpeg's name, such as ``yuv420p``.
        extradata: what a decoder must know before the first packet.
        dts: ``(N,)`` when each is decoded, in the file's unit.
        keys: ``(N,)`` which of them the file calls key frames.
        shown: ``(F,)`` position of the packet of each frame, in the order in which frames are shown; empty where
            packets do not say when they are shown.
    """

    codec: str
    pixel_format: str
    extradata: bytes
    dts: NDArray[np.int64]
    keys: NDArray[np.bool_]
    shown: NDArray[np.int64]

    def longest(self, start: int, stop: int) -> tuple[int, int] | None:
        """The longest run of frames in ``[start, stop)`` whose packets can be copied, as the file calls its key
        frames; None where there is none.
        """
        best: tuple[int, int] | None = None
        for first in range(start, stop):
            if best is not None and stop - first <= best[1] - best[0]:
                break
            if first >= len(self.shown) or not self.keys[self.shown[first]]:
                continue
            places = self.shown[first:stop] - self.shown[first]
            whole = np.maximum.accumulate(places) == np.arange(len(places))
            whole &= np.minimum.accumulate(places) >= 0
            if whole.any():
                end = first + int(np.flatnonzero(whole)[-1]) + 1
                if best is None or end - first > best[1] - best[0]:
                    best = first, end
        return best


def packets_of(path: Path) -> Packets:
    """The packets of a file; nothing is decoded.

    Raises:
        DataError: E109 for a file that is no video.
    """
    return _packets(path, state_of(path))


@functools.lru_cache(maxsize=16)
def _packets(path: Path, _state: object) -> Packets:
    try:
        with open_video(path) as video:
            track: Any = video.streams.video[0]
            context = track.codec_context
            rows = [(p.pts, p.dts, p.is_keyframe, p.is_discard) for p in video.demux(track) if p.size]
            tag = context.codec_tag
            known = (codec_named(context.name), context.pix_fmt or "unknown", bytes(context.extradata or b""))
    except (av.FFmpegError, IndexError, OSError, AttributeError) as error:
        raise DataError("E109", f"{path.name} is no video: {damage(path, error)}") from None
    told = [(pts, at) for at, (pts, _, _, hidden) in enumerate(rows) if pts is not None and not hidden]
    good = tag not in _IN_BAND and len({pts for pts, _ in told}) == len(told)
    good = good and all(pts is not None and dts is not None for pts, dts, _, _ in rows)
    return Packets(
        *known,
        dts=np.asarray([dts or 0 for _, dts, _, _ in rows], dtype=np.int64),
        keys=np.asarray([key for _, _, key, _ in rows], dtype=np.bool_),
        shown=np.asarray([at for _, at in sorted(told)] if good else [], dtype=np.int64),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A whole mp4 file in memory, and what must be known of it to put it behind others.

    Attributes:
        data: its bytes.
        codec: as of `Packets`.
        pixel_format: as of `Packets`.
        extradata: as of `Packets`; clips of one file have one.
        digests: SHA-256 of each packet, in order.
        delay: by how many frames packets are decoded ahead.
    """

    data: bytes
    codec: str
    pixel_format: str
    extradata: bytes
    digests: list[bytes]
    delay: int


def clip_of(data: bytes) -> Clip:
    """What is known of the bytes of an mp4 file that was made here."""
    with open_video(io.BytesIO(data)) as container:
        track: Any = container.streams.video[0]
        context = track.codec_context
        found = [(p.pts, hashlib.sha256(bytes(p)).digest()) for p in container.demux(track) if p.size]
        return Clip(
            data,
            codec_named(context.name),
            context.pix_fmt,
            bytes(context.extradata or b""),
            [digest for _, digest in found],
            delay_of(np.argsort([pts for pts, _ in found])),
        )


def copy(path: Path, start: int, stop: int, *, fps: float) -> Clip | None:
    """An mp4 file of frames ``start`` to ``stop`` of another, whose packets are those of the other byte for byte.

    The first frame is shown at 0 and the others ``1 / fps`` apart. None where they are no run that can be copied.

    Raises:
        DataError: E109 for a file that can't be read.
    """
    known = packets_of(path)
    if stop > len(known.shown) or known.longest(start, stop) != (start, stop):
        return None
    first = int(known.shown[start])
    order = known.shown[start:stop] - first
    buffer, digests = io.BytesIO(), []
    try:
        with open_video(path) as source, av.open(buffer, "w", format=FORMAT, options=BITEXACT) as output:
            track: Any = source.streams.video[0]
            for number, packet in enumerate(_run(source, track, known, first, stop - start)):
                data = bytes(packet)
                if number == 0:
                    if not is_entry(known.codec, data, known.extradata):
                        return None
                    out = _Output(output, track, fps, order)
                digests.append(hashlib.sha256(data).digest())
                out.put(packet)
    except (av.FFmpegError, OSError) as error:
        raise DataError("E109", f"{path.name} can't be cut: {damage(path, error)}") from None
    made = clip_of(buffer.getvalue())
    return made if made.digests == digests else None


def _run(source: Any, track: Any, known: Packets, first: int, count: int) -> Iterator[Any]:
    """Packets ``first`` and following of an open file."""
    source.seek(int(known.dts[first]), stream=track, backward=True)
    at = None
    for packet in source.demux(track):
        if not packet.size:
            continue
        if at is None:  # a seek ends at some key frame no later than that
            at = int(np.searchsorted(known.dts, packet.dts))
        if packet.dts != known.dts[at]:
            raise av.InvalidDataError(0, f"packet {at} is another than when the file was read")
        if at >= first:
            yield packet
        at += 1
        if at == first + count:
            return
    raise av.EOFError(0, f"the file ends before packet {first + count}")


class _Output:
    """One track of an mp4 file that is being written, packet after packet.

    Args:
        container: open for writing.
        template: a track with the same codec and extradata.
        fps: frames a second.
        order: position of the packet of each frame, of the first clip.
        delay: frames by which the first packet is decoded before the first frame is shown; None: as few as
            possible.
    """

    def __init__(
        self, container: Any, template: Any, fps: float, order: NDArray[np.int64], delay: int | None = None
    ) -> None:
        self._container, self._fps = container, fps
        self._stream = container.add_stream_from_template(template, opaque=True)
        self._stream.time_base = 1 / rate(fps)
        self._delay = delay_of(order) if delay is None else delay
        self._at = 0
        self.begin(order)

    def begin(self, order: NDArray[np.int64]) -> None:
        """The packets that come next are those of frames in this order."""
        self._begun, self._shown = self._at, np.argsort(order)

    def put(self, packet: Any) -> None:
        """The next packet."""
        packet.pts = self._begun + int(self._shown[self._at - self._begun])
        packet.dts = self._at - self._delay
        packet.duration = 1
        packet.time_base = 1 / rate(self._fps)
        packet.stream = self._stream
        self._container.mux(packet)
        self._at += 1


def codec_named(decoder: str) -> str:
    """The codec of FFmpeg's decoder of this name."""
    return _NAMES.get(decoder, decoder)


def delay_of(order: NDArray[np.int64]) -> int:
    """By how many frames packets must be decoded ahead, where the frames' packets lie in this order."""
    shown = np.argsort(order)
    return int(np.max(np.arange(len(shown)) - shown, initial=0))


def packet_digests(source: Any) -> list[bytes]:
    """SHA-256 of each packet of a video file (a path, a readable stream or its bytes), in order."""
    with open_video(io.BytesIO(source) if isinstance(source, bytes) else source) as video:
        track: Any = video.streams.video[0]
        return [hashlib.sha256(bytes(packet)).digest() for packet in video.demux(track) if packet.size]


def join(files: Iterable[bytes], target: Any, *, fps: float, delay: int = 0) -> None:
    """One mp4 file (a path or a writable stream) of several with one codec and extradata, packet by packet.

    Args:
        files: mp4 files, each beginning with a key frame.
        target: to write.
        fps: frames a second.
        delay: the largest `delay_of` any of them.
    """
    with av.open(target, "w", format=FORMAT, options=BITEXACT) as output:
        out: _Output | None = None
        for data in files:
            with open_video(io.BytesIO(data)) as source:
                track: Any = source.streams.video[0]
                packets = [packet for packet in source.demux(track) if packet.size]
                order = np.argsort([packet.pts for packet in packets])
                if out is None:
                    out = _Output(output, track, fps, order, delay)
                else:
                    out.begin(order)
                for packet in packets:
                    out.put(packet)
