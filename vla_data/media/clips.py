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

from vla_data.errors import UsageError
from vla_data.media import packets, video
from vla_data.media.frames import ClipFrame, Frames
from vla_data.media.video_settings import ENCODED, VideoSettings


@dataclass(frozen=True, slots=True)
class Encoded:
    """A camera's clip.

    Attributes:
        clip: the mp4 file.
        copied: how many of its frames are packets of the source.
        encoded: how many were encoded.
    """

    clip: packets.Clip
    copied: int
    encoded: int

    def facts(self) -> dict[str, Any]:
        """``codec``, ``pixels`` (FFmpeg's name), ``extradata`` (its SHA-256), ``delay``, ``copied``
        and ``encoded``, as JSON has them.
        """
        return {
            "codec": self.clip.codec,
            "pixels": self.clip.pixel_format,
            "extradata": hashlib.sha256(self.clip.extradata).hexdigest(),
            "delay": self.clip.delay,
            "copied": self.copied,
            "encoded": self.encoded,
        }


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
    run = run_of(frames) if copy else None
    if run is not None and (cut := _cut(frames, *run, settings, fps)) is not None:
        return cut
    if settings.codec not in ENCODED:
        begin = "" if run is None else f" from frame {run[1]:,} of {run[0].name} on"
        raise UsageError(
            "E002",
            f"{settings.codec} video is copied and not encoded, and what is wanted{begin} begins or ends where it "
            "can't be cut; choose other steps, or encode it anew with `vla-data convert --video av1`",
        )
    return Encoded(_encoded(frames, 0, len(frames), settings, fps), 0, len(frames))


def _encoded(frames: Frames, start: int, stop: int, settings: VideoSettings, fps: float) -> packets.Clip:
    return packets.clip_of(video.encode((frames.pixels(i) for i in range(start, stop)), settings, fps=fps))


def _cut(frames: Frames, path: Path, start: int, stop: int, settings: VideoSettings, fps: float) -> Encoded | None:
    """What can be copied, between what must be encoded; None where that can't be one clip."""
    known = packets.packets_of(path)
    found = known.longest(start, stop)
    if known.codec != settings.codec or found is None:
        return None
    middle = packets.copy(path, *found, fps=fps)
    if middle is None or (settings.codec not in ENCODED and found != (start, stop)):
        return None
    first, last = found[0] - start, found[1] - start
    parts = [middle]
    if first > 0:
        parts.insert(0, _encoded(frames, 0, first, settings, fps))
    if last < len(frames):
        parts.append(_encoded(frames, last, len(frames), settings, fps))
    if len(parts) == 1:
        return Encoded(middle, len(frames), 0)
    if len({part.extradata for part in parts}) > 1:
        return None
    buffer = io.BytesIO()
    packets.join((part.data for part in parts), buffer, fps=fps, delay=max(part.delay for part in parts))
    made = packets.clip_of(buffer.getvalue())
    if made.digests != [digest for part in parts for digest in part.digests]:
        return None
    return Encoded(made, last - first, len(frames) - (last - first))
