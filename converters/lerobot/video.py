"""Which frames of a video file the rows of a LeRobot episode have.

A row's frame is the one whose time in the file is ``timestamp``, after ``from_timestamp`` in v3.0, within the 1e-4
s (and the precision of a float32 and of the file's clock) that lerobot's reader allows. A file may have more
frames a second than the dataset, as where rows were thinned out: then times name every second or third frame, with
the note ``video_at_other_rate:<camera>=<frames a second>``.

**v3.0.** Episodes share files. ``from_timestamp`` must be the time of a frame, and each row's frame must lie
before ``to_timestamp`` (E221). The range must have as many frames as the episode has rows, or end with the last
row's frame or less than a row later, and must not overlap another episode's (E204).

**v2.1 and v2.0.** A file is one episode. Where the times do not name a frame for every row, and the file has the
dataset's rate and exactly as many frames as the episode has rows, they are taken in order, with the note
``video_by_position:<camera>``: NVIDIA's GR00T samples begin at ``1 / fps``, so that the last row's time is beyond
the end. Anything else is refused (E221).

**Depth.** Frames are RGB images of 8 bits. A camera of more bits that has no colours, that ``info.json`` calls a
depth map, or that has opacity is refused (E208), but for depth whose levels ``info.json`` explains (see
`converters.lerobot.depth`). Colours of more bits are rounded to 8, as lerobot's reader does,
with the note ``video_of_more_bits:<camera>=<bits>``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.lerobot import depth
from converters.lerobot.columns import TOLERANCE
from converters.lerobot.layout import Track
from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.media import video
from vla_data.media.frames import ClipFrame, Frames
from vla_data.safety.text import show

_BITS: Final = 8
_RATE_TOLERANCE: Final = 1e-3
_ROUNDING: Final = 0.5  # frames, by which the end of a range may be off


def read(
    path: Path, camera: str, track: Track, time: NDArray[np.float64], fps: float, declared: Mapping[str, Any]
) -> tuple[Frames, list[str]]:
    """The images of an episode's rows, decoded when somebody looks at them, and notes.

    Args:
        path: the video file.
        camera: the feature.
        track: where the episode is in the file.
        time: ``(T,)`` seconds, of each row.
        fps: of the dataset.
        declared: the feature in ``info.json``.

    Raises:
        DataError: E109, E107 or E203 as `vla_data.media.video.describe`; E204, E208 and E221 as stated above.
    """
    about = video.describe(path)
    notes = _check_pixels(about, camera, declared)
    chosen, more = choose(path, camera, track, time, fps)
    clip = video.Clip(path, 0)
    items = tuple(ClipFrame(clip, number) for number in chosen)
    return Frames(items, about.height, about.width), [*notes, *more]


def read_depth(
    path: Path, camera: str, track: Track, time: NDArray[np.float64], fps: float, declared: Mapping[str, Any]
) -> tuple[Array, list[str]]:
    """The distances of an episode's rows, ``(T, height, width, 1)``, and notes; see `converters.lerobot.depth`.

    Raises:
        DataError: as `read`; E208 for a video that is not grey of 12 bits.
    """
    about = video.describe(path)
    if not about.gray or about.bits != depth.BITS:
        what = f"{show(camera)} is video of {about.pixel_format} ({about.bits} bits)"
        raise DataError(
            "E208", f"{what}, not the grey of 12 bits of a depth map; --drop {show(camera)} leaves it out"
        )
    chosen, notes = choose(path, camera, track, time, fps)
    clip = video.Clip(path, 0)
    levels = depth.from_levels((clip.codes(number) for number in chosen), camera, declared)
    return levels, [*notes, f"depth_from_video:{camera}"]


def choose(
    path: Path, camera: str, track: Track, time: NDArray[np.float64], fps: float
) -> tuple[list[int], list[str]]:
    """The number of each row's frame in a file, and notes; arguments and errors as of `read`."""
    rate = video.describe(path).rate
    chosen, by_position = _numbers(path, track, time, fps, rate)
    notes = [f"video_by_position:{camera}"] if by_position else []
    if not by_position and _is_other(rate, fps):
        notes.append(f"video_at_other_rate:{camera}={float(rate):g}")
    return chosen.tolist(), notes


def _check_pixels(about: video.About, camera: str, declared: Mapping[str, Any]) -> list[str]:
    what = f"{show(camera)} is video of {about.pixel_format} ({about.bits} bits)"
    way = f"--drop {show(camera)} leaves it out"
    if depth.is_declared(declared):
        raise DataError("E208", f"{what} and a depth map, which RGB images can't hold; {way}")
    if about.gray and about.bits > _BITS:
        raise DataError("E208", f"{what}, which RGB images of 8 bits would cut; {way}")
    if about.alpha:
        raise DataError("E208", f"{what} with opacity, which RGB images can't hold; {way}")
    return [f"video_of_more_bits:{camera}={about.bits}"] if about.bits > _BITS else []


def _is_other(rate: Fraction, fps: float) -> bool:
    return bool(rate) and abs(float(rate) - fps) > _RATE_TOLERANCE * fps


def _numbers(
    path: Path, track: Track, time: NDArray[np.float64], fps: float, rate: Fraction
) -> tuple[NDArray[np.int64], bool]:
    """``(T,)``: the number of each row's frame in the file, and whether they go by position.

    Times are those of the file, as lerobot's reader takes them; in a file that does not begin at 0 they are,
    where that does not fit, counted from its first frame.
    """
    line = video.timeline(path)
    shown = line.seconds()
    if not len(shown):
        raise DataError("E204", f"{track.file} has no frames")
    slack = TOLERANCE + float(line.unit) / 2
    begins = float(line.pts[0] * line.unit)
    if begins:
        with suppress(DataError):
            numbers, by_position = _named(shown + begins, track, time, fps, rate, slack)
            if not by_position:
                return numbers, False
    return _named(shown, track, time, fps, rate, slack)


def _named(
    shown: NDArray[np.float64],
    track: Track,
    time: NDArray[np.float64],
    fps: float,
    rate: Fraction,
    slack: float,
) -> tuple[NDArray[np.int64], bool]:
    """See `_numbers`; ``shown`` are the times of the file's frames, of which a row's may be ``slack`` off."""
    numbers, off = _nearest(shown, track.start + time, slack)
    if track.stop is None:
        if not off.any():
            return numbers, False
        if len(shown) == len(time) and not _is_other(rate, fps):
            return np.arange(len(shown)), True
        raise DataError("E221", _unnamed(track.file, len(shown), rate, time, fps))
    start, between = _nearest(shown, np.asarray([track.start]), slack)
    if between.any():
        raise DataError("E221", f"{track.file} has no frame at from_timestamp {track.start:g}")
    half = _ROUNDING / max(fps, float(rate))
    stop = int(np.searchsorted(shown, track.stop - half))
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise DataError("E221", f"{track.file} has no frame at timestamp {time[row]:g} of row {row}")
    ends = shown[numbers[-1]] < track.stop <= shown[numbers[-1]] + 1 / fps + half
    if stop - start[0] != len(time) and not ends:
        raise DataError(
            "E204", f"{track.file} has {stop - start[0]:,} frames of the episode, which has {len(time):,} rows"
        )
    if track.shared:
        raise DataError("E204", f"frames of the episode in {track.file} belong to another episode, too")
    if numbers[0] < start[0] or numbers[-1] >= stop:
        row = int(np.flatnonzero((numbers < start[0]) | (numbers >= stop))[0])
        raise DataError("E221", f"the episode has no frame at timestamp {time[row]:g} of row {row}")
    return numbers, False


def _unnamed(file: str, count: int, rate: Fraction, time: NDArray[np.float64], fps: float) -> str:
    rates = f", at {float(rate):g} a second where the dataset has {fps:g}," if _is_other(rate, fps) else ""
    return f"{file} has {count:,} frames{rates} and the timestamps of {len(time):,} rows do not name them"


def _nearest(
    shown: NDArray[np.float64], time: NDArray[np.float64], slack: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The frame nearest to each time, and whether it is further away than may be."""
    after = np.clip(np.searchsorted(shown, time), 1, max(1, len(shown) - 1))
    before = after - 1
    after = np.minimum(after, len(shown) - 1)
    numbers = np.where(np.abs(shown[before] - time) <= np.abs(shown[after] - time), before, after)
    allowed = slack + np.spacing(np.abs(time).astype(np.float32)).astype(np.float64)
    return numbers.astype(np.int64), np.abs(shown[numbers] - time) > allowed
