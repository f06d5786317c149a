"""Episodes as video: encoding straight from pixels, joining by copying packets, decoding only what is asked for.

Encoders run with one thread, because workers are processes and because some give other bytes with more; the
containers are written without dates and version tags. Both make equal frames equal bytes.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from vla_data.errors import DataError
from vla_data.media.images import MAX_SIDE, Pixels
from vla_data.media.video_settings import VideoSettings

# SVT-AV1 prints its settings for every episode otherwise, and its own lines beside our errors up to level 1.
os.environ.setdefault("SVT_LOG", "0")

_DECODERS: Final = ("av1", "h264", "hevc", "libdav1d", "mpeg4", "vp8", "vp9")
_BITEXACT: Final = {"fflags": "bitexact"}
_LEAST_SIDE: Final = {"av1": 4, "h264": 8}
"""Of AV1 what SVT-AV1 takes, of H.264 the smallest that was seen to give the same bytes each time."""
_NEAR: Final = 64  # frames ahead up to which decoding on is cheaper than seeking


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
    with av.open(buffer, "w", format="mp4", options=_BITEXACT) as container:
        stream: Any = None
        for number, pixels in enumerate(frames):
            if stream is None:
                height, width = pixels.shape[:2]
                _check_size(height, width, settings)
                stream = container.add_stream(settings.encoder, rate=rate(fps), options=settings.options())
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.thread_count = 1
                _open(stream, height, width, fps)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
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
    with av.open(io.BytesIO(data), "r", format="mp4") as video:
        track: Any = video.streams.video[0]
        track.codec_context.thread_count = 1
        for frame in video.decode(track):
            pixels: Pixels = frame.to_ndarray(format="rgb24")
            yield pixels


def join(files: Iterable[bytes], target: Any) -> None:
    """One mp4 file (a path or a writable stream) of several of the same settings, packet by packet."""
    with av.open(target, "w", format="mp4", options=_BITEXACT) as output:
        stream: Any = None
        at = 0
        for data in files:
            with av.open(io.BytesIO(data), "r", format="mp4") as source:
                track: Any = source.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(track, opaque=True)
                    stream.time_base = track.time_base
                step = int(1 / (track.average_rate * track.time_base))
                count = 0
                for packet in source.demux(track):
                    if packet.dts is None:
                        continue
                    packet.pts = packet.dts = (at + count) * step
                    packet.duration = step
                    packet.stream = stream
                    output.mux(packet)
                    count += 1
                at += count


def packet_digests(source: Any) -> list[bytes]:
    """SHA-256 of each packet of a video file (a path or a readable stream), in order."""
    with av.open(source, "r", options={"protocol_whitelist": "file"} if isinstance(source, str) else {}) as video:
        track: Any = video.streams.video[0]
        return [hashlib.sha256(bytes(packet)).digest() for packet in video.demux(track) if packet.size]


@dataclass(frozen=True, slots=True)
class Clip:
    """A run of frames in a video file.

    Attributes:
        path: the file.
        start: number of the first frame in the file.
        fps: of the file.
    """

    path: Path
    start: int
    fps: float

    def frames(self, count: int) -> tuple[ClipFrame, ...]:
        """The first ``count`` frames of the run, lazily."""
        return tuple(ClipFrame(self, number) for number in range(count))

    def frame(self, number: int) -> Pixels:
        """Frame ``number`` of the run, ``(height, width, 3)`` uint8 RGB.

        Raises:
            DataError: E105 when the file ends before it, E109 when it can't be decoded.
        """
        try:
            facts = self.path.stat()
        except OSError as error:
            raise DataError("E133", f"{self.path.name}: {error.strerror}") from None
        return _reader(str(self.path), self.fps, facts.st_mtime_ns, facts.st_size).frame(self.start + number)


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One frame of a clip, decoded when somebody looks at it."""

    clip: Clip
    number: int

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB."""
        return self.clip.frame(self.number)


@functools.lru_cache(maxsize=4)
def _reader(path: str, fps: float, _mtime: int, _size: int) -> _Reader:
    return _Reader(path, fps)


def describe(path: Path) -> tuple[str, int, int, Fraction]:
    """Codec, height, width and frame rate of a video file, with limits checked before anything is decoded.

    Raises:
        DataError: E109 for a file that is no video, E107 for too large frames, E203 for another codec.
    """
    try:
        with av.open(str(path), "r", options={"protocol_whitelist": "file"}) as video:
            track: Any = video.streams.video[0]
            context = track.codec_context
            found = (context.name, context.height, context.width, Fraction(track.average_rate or 0))
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError("E109", f"{path.name} is not a video ({type(error).__name__})") from None
    if found[0] not in _DECODERS:
        raise DataError("E203", f"{path.name} has codec {found[0]!r}; known are {', '.join(_DECODERS)}")
    if max(found[1], found[2]) > MAX_SIDE:
        raise DataError("E107", f"{path.name} has frames of {found[2]:,}x{found[1]:,} pixels")
    return found


class _Reader:
    """One open video file; frames that are asked for in order are decoded once."""

    def __init__(self, path: str, fps: float) -> None:
        self._name = Path(path).name
        describe(Path(path))
        self._container = av.open(path, "r", options={"protocol_whitelist": "file"})
        self._track: Any = self._container.streams.video[0]
        self._track.codec_context.thread_count = 1
        self._fps = fps
        self._frames: Iterator[Any] = iter(())
        self._at = -1
        self._last: Any = None

    def frame(self, number: int) -> Pixels:
        try:
            if not self._at <= number <= self._at + _NEAR or self._at < 0:
                self._seek(number)
            while self._at < number:
                self._last = next(self._frames)
                self._at = self._number(self._last)
        except StopIteration:
            self._at = -1
            raise DataError("E105", f"{self._name} ends before frame {number:,}") from None
        except av.FFmpegError as error:
            self._at = -1
            raise DataError("E109", f"frame {number:,} of {self._name} can't be decoded ({error})") from None
        if self._at != number:
            raise DataError("E105", f"{self._name} has no frame {number:,}")
        pixels: Pixels = self._last.to_ndarray(format="rgb24")
        return pixels

    def _number(self, frame: Any) -> int:
        return round(float(frame.pts * self._track.time_base - self._offset()) * self._fps)

    def _offset(self) -> Fraction:
        start = self._track.start_time or 0
        return Fraction(start * self._track.time_base)

    def _seek(self, number: int) -> None:
        time = Fraction(number) / rate(self._fps) + self._offset()
        self._container.seek(int(time / self._track.time_base), stream=self._track, backward=True)
        self._frames = self._container.decode(self._track)
        self._last = next(self._frames)
        self._at = self._number(self._last)


def psnr(first: Sequence[Pixels], second: Sequence[Pixels]) -> float:
    """Peak signal-to-noise ratio of two runs of frames in decibels; infinite for equal ones."""
    total = sum(float(np.mean((a.astype(np.float64) - b) ** 2)) for a, b in zip(first, second, strict=True))
    return float("inf") if total == 0 else 10 * float(np.log10(255**2 * len(first) / total))
