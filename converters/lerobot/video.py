"""Which frames of a video file the rows of a LeRobot episode have.

**v3.0.** Episodes share files. A row's frame is the one at ``from_timestamp + timestamp``, within the 1e-4 s (and
the precision of a float32) that lerobot's reader allows. ``from_timestamp`` must be the time of a frame, and each
row's frame must lie before ``to_timestamp`` (E221). The range must have as many frames as the episode has rows,
or end with the last row's frame, and must not overlap another episode's (E204).

**v2.1 and v2.0.** A file is one episode. A row's frame is the one at ``timestamp``, within the same tolerance,
where the file has one for every row. Otherwise, if the file has exactly as many frames as the episode has rows,
they are taken in order, with the note ``video_by_position:<camera>``: NVIDIA's GR00T samples begin at ``1 / fps``,
so that the last row's time is beyond the end. Anything else is refused (E221).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from converters.lerobot.columns import TOLERANCE
from converters.lerobot.layout import Track
from vla_data.errors import DataError
from vla_data.media import video
from vla_data.media.frames import Frames


def read(path: Path, track: Track, time: NDArray[np.float64], fps: float) -> tuple[Frames, bool]:
    """The images of an episode's rows, decoded when somebody looks at them, and whether they go by position.

    Args:
        path: the video file.
        track: where the episode is in it.
        time: ``(T,)`` seconds, of each row.
        fps: of the dataset.

    Raises:
        DataError: E109, E107 or E203 as `vla_data.media.video.describe`, E204 and E221 as stated above.
    """
    _, height, width, found = video.describe(path)
    if found and abs(float(found) - fps) > 1e-3 * fps:
        raise DataError("E221", f"{track.file} has {float(found):g} frames a second, the dataset {fps:g}")
    chosen, by_position = _numbers(path, track, time, fps)
    clip = video.Clip(path, 0, fps)
    return Frames(tuple(video.ClipFrame(clip, number) for number in chosen.tolist()), height, width), by_position


def _numbers(path: Path, track: Track, time: NDArray[np.float64], fps: float) -> tuple[NDArray[np.int64], bool]:
    """``(T,)``: the number of each row's frame in the file, and whether they go by position."""
    count = frames_in(path)
    numbers, off = _nearest(track.start + time, fps)
    if track.stop is None:
        if not off.any() and numbers[0] >= 0 and numbers[-1] < count:
            return numbers, False
        if count == len(time):
            return np.arange(count), True
        raise DataError("E221", f"{track.file} has {count:,} frames, which the timestamps do not name")
    start, between = _nearest(np.asarray([track.start]), fps)
    if between.any():
        raise DataError("E221", f"from_timestamp {track.start:g} is between two frames of {track.file}")
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise DataError("E221", f"timestamp {time[row]:g} of row {row} is between two frames of {track.file}")
    stop = round(track.stop * fps)
    if stop - start[0] not in (len(time), numbers[-1] + 1 - start[0]):
        raise DataError(
            "E204", f"{track.file} has {stop - start[0]:,} frames of the episode, which has {len(time):,} rows"
        )
    if track.shared:
        raise DataError("E204", f"frames of the episode in {track.file} are another episode's too")
    if numbers[0] < start[0] or numbers[-1] >= min(stop, count):
        row = int(np.flatnonzero((numbers < start[0]) | (numbers >= min(stop, count)))[0])
        raise DataError("E221", f"timestamp {time[row]:g} of row {row} is of no frame of the episode's")
    return numbers, False


def _nearest(time: NDArray[np.float64], fps: float) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The frame nearest to each time, and whether it is further away than may be."""
    numbers = np.round(time * fps)
    allowed = TOLERANCE + np.spacing(np.abs(time).astype(np.float32)).astype(np.float64)
    off = np.abs(numbers / float(video.rate(fps)) - time) > allowed
    return numbers.astype(np.int64), off


def frames_in(path: Path) -> int:
    """How many frames a video file has."""
    facts = path.stat()
    return _count(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=64)
def _count(path: Path, _mtime: int, _size: int) -> int:
    try:
        with av.open(str(path), "r", options={"protocol_whitelist": "file"}) as container:
            track: Any = container.streams.video[0]
            return int(track.frames) or sum(1 for packet in container.demux(track) if packet.size)
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DataError("E109", f"{path.name} is not a video ({type(error).__name__})") from None
