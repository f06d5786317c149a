"""One camera's images of an episode as an mp4 clip: copied from a video where that is exact, encoded where not.

Images that are a run of frames of one video file keep their packets as far as these can be copied (see
`vla_data.media.packets`); what lies before and after, as the head of a cut between two key frames, is encoded with
the same codec. The two are put together only where the encoder here has the very extradata of the file; where
another encoder or other settings made it, the whole run is encoded.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_data.media import packets, video
from vla_data.media.frames import ClipFrame, Frames
from vla_data.media.mp4 import open_video
from vla_data.media.video_settings import VideoSettings


@dataclass(frozen=True, slots=True)
class Encoded:
    """A clip.

    Attributes:
        data: the mp4 file.
        copied: how many of its frames are packets of the source.
        encoded: how many were encoded.
    """

    data: bytes
    copied: int
    encoded: int


def run_of(frames: Frames) -> tuple[Path, int, int] | None:
    """The file, first frame and end of images that are a run of frames of one video; None for others."""
    first = frames.items[0] if frames.items else None
    if not isinstance(first, ClipFrame) or not isinstance(first.clip, video.Clip):
        return None
    clip, start = first.clip, first.number
    if any(item != ClipFrame(clip, start + n) for n, item in enumerate(frames.items)):
        return None
    return clip.path, clip.start + start, clip.start + start + len(frames)


def encode(frames: Frames, settings: VideoSettings, *, fps: float, copy: bool) -> Encoded:
    """Images as a clip.

    Args:
        frames: one or more.
        settings: of what is encoded; video of another codec is not copied.
        fps: frames a second.
        copy: whether packets may be copied.

    Raises:
        DataError, UsageError: as `vla_data.media.video.encode`, and what reading the images raises.
    """
    if copy and (run := run_of(frames)) is not None and (cut := _cut(frames, *run, settings, fps)) is not None:
        return cut
    return Encoded(_encoded(frames, 0, len(frames), settings, fps), 0, len(frames))


def _encoded(frames: Frames, start: int, stop: int, settings: VideoSettings, fps: float) -> bytes:
    return video.encode((frames.pixels(i) for i in range(start, stop)), settings, fps=fps)


def _cut(frames: Frames, path: Path, start: int, stop: int, settings: VideoSettings, fps: float) -> Encoded | None:
    """What can be copied, between what must be encoded; None where that can't be one clip."""
    known = packets.packets_of(path)
    found = known.longest(start, stop)
    if known.codec != settings.codec or found is None:
        return None
    middle = packets.copy(path, *found, fps=fps)
    if middle is None:
        return None
    first, last = found[0] - start, found[1] - start
    if last - first == len(frames):
        return Encoded(middle, len(frames), 0)
    ends = [(0, first), (last, len(frames))]
    head, tail = (_encoded(frames, *end, settings, fps) if end[0] < end[1] else b"" for end in ends)
    parts = [part for part in (head, middle, tail) if part]
    if len({facts_of(part)["extradata"] for part in parts}) > 1:
        return None
    buffer = io.BytesIO()
    packets.join(parts, buffer, fps=fps, delay=max(facts_of(part)["delay"] for part in parts))
    data = buffer.getvalue()
    if packets.packet_digests(data) != [d for part in parts for d in packets.packet_digests(part)]:
        return None
    return Encoded(data, last - first, len(frames) - (last - first))


def facts_of(data: bytes) -> dict[str, Any]:
    """What must be known of a clip to put it behind others: ``codec``, ``pixels`` (FFmpeg's name of their format),
    ``extradata`` (its SHA-256; clips of one file have one) and ``delay`` (`packets.delay_of`).
    """
    with open_video(io.BytesIO(data)) as container:
        track: Any = container.streams.video[0]
        context = track.codec_context
        order = np.argsort([packet.pts for packet in container.demux(track) if packet.size])
        return {
            "codec": packets.codec_named(context.name),
            "pixels": context.pix_fmt,
            "extradata": hashlib.sha256(bytes(context.extradata or b"")).hexdigest(),
            "delay": packets.delay_of(order),
        }
