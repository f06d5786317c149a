"""Episodes as video: encoding straight from pixels, decoding only what is asked for.

Encoders run with one thread, because workers are processes and because some give other bytes with more; the
containers are written without dates and version tags. Both make equal frames equal bytes.
"""

from __future__ import annotations

import bisect
import functools
import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.media.frames import ClipFrame
from vla_data.media.images import MAX_SIDE, Pixels
from vla_data.media.mp4 import FORMAT, open_video
from vla_data.media.video_settings import VideoSettings
from vla_data.safety.files import damage

# SVT-AV1 prints its settings for every episode otherwise, and its own lines beside our errors up to level 1.
os.environ.setdefault("SVT_LOG", "0")

_DECODERS: Final = ("av1", "h264", "hevc", "libdav1d", "mpeg4", "vp8", "vp9")
BITEXACT: Final = {"fflags": "bitexact"}
_LEAST_SIDE: Final = {"av1": 4, "h264": 8}
"""Of AV1 what SVT-AV1 takes, of H.264 the smallest that was seen to give the same bytes each time."""
_NEAR: Final = 64  # frames ahead up to which decoding on is cheaper than seeking, where no key frame is between
_NEXT: Final = 4  # frames ahead up to which it always is
_REORDERED: Final = 16  # H.264 and HEVC hold back as many at most
_TRIES: Final = 6
_INTRA: Final = PictureType.I


def rate(fps: float) -> Fraction:
    """The frame rate as a fraction, exact for whole rates and 30000/1001 and the like."""
    return Fraction(fps).limit_denominator(1001)


def encode(frames: Iterable[Pixels], settings: VideoSettings, *, fps: float) -> bytes:
    """An mp4 file of ``(height, width, 3)`` uint8 RGB frames, as 4:2:0.

    Raises:
        DataError: E203 for sizes that the encoder refuses.
        UsageError: E001 for a frame rate that it refuses.
    """
    settings.check_rate(fps)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=FORMAT, options=BITEXACT) as container:
        stream: Any = None
        for number, pixels in enumerate(frames):
            if stream is None:
                height, width = pixels.shape[:2]
                _check_size(height, width, settings)
                stream = container.add_stream(settings.encoder, rate=rate(fps), options=settings.options())
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.thread_count = 1
                _open(stream, height, width, fps)
            # Not copied: it is converted to 4:2:0 at once, which is all that the encoder keeps.
            frame = av.VideoFrame.from_numpy_buffer(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number
            frame.time_base = 1 / rate(fps)
            container.mux(stream.encode(frame))
        if stream is None:
            raise ValueError("there are no frames to encode")
        container.mux(stream.encode())
    return buffer.getvalue()


def _check_size(height: int, width: int, settings: VideoSettings) -> None:
    if height % 2 or width % 2:
        raise DataError("E203", f"video needs even sides, not {height}x{width}; use --images")
    least = _LEAST_SIDE[settings.codec]
    if min(height, width) < least:
        small = f"{settings.codec} video needs sides of {least} pixels or more, not {height}x{width}"
        raise DataError("E203", f"{small}; use --images")


def _open(stream: Any, height: int, width: int, fps: float) -> None:
    """Open the encoder, so that what it refuses is told from what goes wrong later."""
    try:
        stream.codec_context.open(strict=False)
    except av.FFmpegError:
        refused = f"{stream.codec_context.name} refuses frames of {height}x{width} at {fps:g} a second"
        raise DataError("E203", f"{refused}; use --images") from None


def decode(data: bytes) -> Iterator[Pixels]:
    """Every frame of an mp4 file that `encode` made, in order, ``(height, width, 3)`` uint8 RGB."""
    with open_video(io.BytesIO(data)) as video:
        track: Any = video.streams.video[0]
        track.codec_context.thread_count = 1
        for frame in video.decode(track):
            pixels: Pixels = frame.to_ndarray(format="rgb24")
            yield pixels


@dataclass(frozen=True, slots=True)
class Clip:
    """A run of frames in a video file.

    Attributes:
        path: the file.
        start: number of the first frame in the file, in the order in which frames are shown.
    """

    path: Path
    start: int

    def frames(self, count: int) -> tuple[ClipFrame, ...]:
        """The first ``count`` frames of the run, lazily."""
        return tuple(ClipFrame(self, number) for number in range(count))

    def frame(self, number: int) -> Pixels:
        """Frame ``number`` of the run, ``(height, width, 3)`` uint8 RGB: what decoding the file from its beginning
        gives, whatever was asked for before.

        Raises:
            DataError: E105 when the file ends before it, E109 when it can't be decoded.
        """
        pixels: Pixels = self._shown(number).to_ndarray(format="rgb24")
        return pixels

    def codes(self, number: int) -> NDArray[np.uint16]:
        """Frame ``number`` of a run of 12-bit grey pictures, ``(height, width)`` uint16 of 0 to 4095.

        Raises:
            DataError: as `frame`.
        """
        found: NDArray[np.uint16] = self._shown(number).to_ndarray(format="gray12le")
        return found

    def _shown(self, number: int) -> Any:
        return _reader(str(self.path), *_changed(self.path)).frame(self.start + number)


def _changed(path: Path) -> tuple[int, int]:
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError("E133", f"{path.name}: {error.strerror}") from None
    return facts.st_mtime_ns, facts.st_size


@functools.lru_cache(maxsize=4)
def _reader(path: str, _mtime: int, _size: int) -> _Reader:
    return _Reader(path)


@dataclass(frozen=True, slots=True)
class About:
    """What a video file says of its frames.

    Attributes:
        codec: FFmpeg's name of its decoder.
        height: in pixels.
        width: in pixels.
        rate: frames a second, on average; 0 where it is not known.
        pixel_format: FFmpeg's name, such as ``yuv420p``.
        bits: of the largest component of a pixel.
        gray: there is one component alone.
        alpha: one of the components is opacity.
    """

    codec: str
    height: int
    width: int
    rate: Fraction
    pixel_format: str
    bits: int
    gray: bool
    alpha: bool


def describe(path: Path) -> About:
    """What a video file says of its frames, with limits checked before anything is decoded.

    Raises:
        DataError: E109 for a file that is no video, E107 for too large frames, E203 for another codec.
    """
    try:
        with open_video(path) as video:
            track: Any = video.streams.video[0]
            context = track.codec_context
            if context is None:
                raise DataError("E203", f"{path.name} has frames of a codec that is not known here")
            pixels = context.format
            parts = pixels.components if pixels is not None else ()
            found = About(
                codec=context.name,
                height=context.height,
                width=context.width,
                rate=Fraction(track.average_rate or 0),
                pixel_format=pixels.name if pixels is not None else "unknown",
                bits=max((part.bits for part in parts), default=8),
                gray=len(parts) == 1 and not pixels.has_palette,
                alpha=any(part.is_alpha for part in parts),
            )
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError("E109", f"{path.name} is no video: {damage(path, error)}") from None
    if found.codec not in _DECODERS:
        raise DataError("E203", f"{path.name} has codec {found.codec!r}; known are {', '.join(_DECODERS)}")
    if max(found.height, found.width) > MAX_SIDE:
        raise DataError("E107", f"{path.name} has frames of {found.width:,}x{found.height:,} pixels")
    return found


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the frames of a video file are shown.

    Attributes:
        pts: of each frame, in the order in which they are shown; each once.
        unit: seconds.
        keys: pts of the frames at which the file says that decoding may begin, in order.
    """

    pts: NDArray[np.int64]
    unit: Fraction
    keys: NDArray[np.int64]

    def seconds(self) -> NDArray[np.float64]:
        """``(N,)``, of each frame from the first one on."""
        return np.asarray((self.pts - self.pts[:1]) * float(self.unit), dtype=np.float64)


def timeline(path: Path) -> Timeline:
    """When each frame is shown, by the file's packets; nothing is decoded.

    Raises:
        DataError: E109 for a file that is no video.
    """
    return _timeline(str(path), *_changed(path))


@functools.lru_cache(maxsize=64)
def _timeline(path: str, _mtime: int, _size: int) -> Timeline:
    try:
        with open_video(path) as video:
            track: Any = video.streams.video[0]
            packets = (p for p in video.demux(track) if p.size and p.pts is not None and not p.is_discard)
            shown = [(packet.pts, packet.is_keyframe) for packet in packets]
            pts, keys = ([pts for pts, key in shown if key or every] for every in (True, False))
            unit = Fraction(track.time_base)
            return Timeline(np.unique(np.array(pts, np.int64)), unit, np.unique(np.array(keys, np.int64)))
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError("E109", f"{Path(path).name} is no video: {damage(Path(path), error)}") from None


class _Reader:
    """One open video file; frames that are asked for in order are decoded once.

    A file may be entered at any key frame that is shown no later than the wanted frame. Frames that follow a key
    frame in the file and are shown before it (open groups of pictures) need the group before, so the key frame is
    chosen by the time at which it is shown, and where the decoder does not give the frame, an earlier one is
    tried.
    """

    def __init__(self, path: str) -> None:
        self._path, self._name = path, Path(path).name
        describe(Path(path))
        times = timeline(Path(path))
        self._pts: list[int] = times.pts.tolist()
        self._keys: list[int] = times.keys.tolist()
        self._can_enter = True  # until a key frame of the file's turned out not to be one
        self._open()

    def _open(self) -> None:
        self._container = open_video(self._path)
        self._track: Any = self._container.streams.video[0]
        self._track.codec_context.thread_count = 1
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None
        self._entered: int | None = None  # pts of the key frame at which decoding began, until it is seen
        self._is_whole = False  # decoded from the beginning of the file: nothing better can come of another try

    def frame(self, number: int) -> Any:
        """FFmpeg's frame."""
        if not 0 <= number < len(self._pts):
            raise DataError("E105", f"{self._name} ends before frame {number:,}")
        wanted = self._pts[number]
        try:
            found = self._is_near(number) and self._decode_to(wanted)
            if not (found or self._enter(wanted) or self._begin(wanted)):
                raise DataError("E105", f"{self._name} has no frame {number:,}")
        except av.FFmpegError as error:
            self._last = None
            raise DataError("E109", f"frame {number:,} of {self._name} can't be decoded ({error})") from None
        except DataError:
            self._last = None
            raise
        return self._last

    def _is_near(self, number: int) -> bool:
        """Whether decoding on is cheaper than entering the file elsewhere."""
        if self._last is None or self._last.pts is None:
            return False
        at = bisect.bisect_left(self._pts, self._last.pts)
        if not at <= number <= at + _NEAR:
            return False
        if number <= at + _NEXT or not self._can_enter:
            return True
        passed, entered = (bisect.bisect_right(self._keys, pts) for pts in (self._last.pts, self._pts[number]))
        return passed == entered  # else a key frame between the two is a shorter way

    def _decode_to(self, wanted: int) -> bool:
        """Decode on until the frame with this pts is the last one; False when it does not come whole."""
        if self._last is not None and self._last.pts == wanted:
            return True
        beyond = 0  # a decoder that learns of B-frames late gives some frames out of order
        for frame in self._frames:
            self._last = frame
            if self._entered is not None and frame.pts is not None and frame.pts >= self._entered:
                if frame.pts > self._entered or frame.pict_type != _INTRA:
                    return False  # pictures are refreshed in strips, and none of them is a key frame alone
                self._entered = None
            if frame.pts == wanted and (self._is_whole or not frame.is_corrupt):
                return True
            beyond += frame.pts is not None and frame.pts > wanted
            if beyond > _REORDERED:
                return False
        return False

    def _enter(self, wanted: int) -> bool:
        """Enter at the last key frame that is shown no later, or at the one before."""
        limit = at = wanted
        for _ in range(_TRIES):
            self._last, self._is_whole = None, False
            self._container.seek(at, stream=self._track, backward=True)
            packets = self._container.demux(self._track)
            first = next(packets, None)
            if first is None or first.pts is None or first.dts is None:
                return False
            if first.pts <= limit:
                self._frames, self._entered = _decoded(first, packets), first.pts
                if self._decode_to(wanted):
                    return True
                limit = first.pts - 1
            at = first.dts - 1
            if limit < self._pts[0]:
                return False
        return False

    def _begin(self, wanted: int) -> bool:
        """Decode from the beginning of the file."""
        self._can_enter = False
        self._container.close()
        self._open()
        self._frames, self._is_whole = self._container.decode(self._track), True
        return self._decode_to(wanted)


def _decoded(first: Any, packets: Iterator[Any]) -> Iterator[Any]:
    yield from first.decode()
    for packet in packets:
        yield from packet.decode()
