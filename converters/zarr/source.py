"""Reads replay buffers in zarr's format 2: Diffusion Policy's, UMI's, and those of their forks.

A folder, or a ``.zarr.zip``, with ``data/<name>`` (a row a step) and ``meta/episode_ends``.

| array | here |
| --- | --- |
| ``action`` | ``action`` |
| ``action_<part>``, ``action.<part>`` | ``action.<part>`` |
| (T, H, W, 3) uint8, or floats that are whole numbers of 0 to 255 | ``observation.images.<name>`` |
| ``reward`` | ``next.reward`` |
| ``timestamp`` | ``observation.timestamp``, and the rate where none is given |
| any other | ``observation.<name>`` |

Images are unpacked when somebody looks at them. What numbers mean, and the instruction, such files do not say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.rollouts.pickled import described
from converters.zarr.buffer import MAX_EPISODE, Buffer, Rows
from vla_data import options as checks
from vla_data.actions.limits import check_numbers
from vla_data.core import Array, Episode, EpisodeMeta, EpisodeRef, Schema
from vla_data.core.base import RootedSource
from vla_data.core.wanted import Unwanted
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.media.images import MAX_SIDE
from vla_data.safety.text import instruction, show

SUFFIX: Final = ".zarr.zip"
_ID: Final = re.compile(r"episode_(\d{6,})")
_TIMES: Final = "timestamp"
_UNEVEN: Final = 0.05  # of the median, that its neighbours' may differ by


@dataclass(frozen=True, kw_only=True)
class ZarrSource(RootedSource):
    """Reads a replay buffer.

    Attributes:
        root: the folder or the zip archive.
        fps: steps per second; None: that of the steps' ``timestamp``.
        task: the instruction of all episodes.
        allow_empty_instruction: keep episodes without one.
        action_limit: largest absolute action value that a robot can mean.
        leave_out: arrays that are not read, such as ``camera_*``.
        unwanted: features that the steps of a job drop before anybody looks at them.
        unneeded: facts that nobody will look at; see `not_asking`.
    """

    root: Path = field(repr=False)
    fps: float | None = None
    task: str | None = None
    allow_empty_instruction: bool = False
    action_limit: float = 1e6
    leave_out: tuple[str, ...] = ()
    unwanted: Unwanted = field(default=Unwanted(), repr=False, compare=False)
    unneeded: Collection[str] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root))
        if self.fps is not None:
            object.__setattr__(self, "fps", checks.number("fps", self.fps, low=1e-3, high=1e6))
        checks.some_text("task", self.task)
        checks.flag("allow_empty_instruction", self.allow_empty_instruction)
        object.__setattr__(self, "action_limit", checks.number("action_limit", self.action_limit, low=0))
        object.__setattr__(self, "leave_out", checks.texts("leave_out", self.leave_out))

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def without(self, unwanted: Unwanted) -> ZarrSource:
        """See `BaseSource`."""
        return replace(self, unwanted=unwanted)

    @property
    def _buffer(self) -> Buffer:
        """The buffer, opened again when its metadata are others."""
        kept: dict[str, Any] = vars(self)
        found = kept.get("_opened")
        if found is None or found[0].state() != found[1]:
            buffer = Buffer(self.root)
            found = kept["_opened"] = (buffer, buffer.state())
        opened: Buffer = found[0]
        return opened

    def episodes(self) -> Sequence[EpisodeRef]:
        """Every episode, in order; sizes are of what is unpacked."""
        buffer = self._buffer
        row = sum(
            int(np.prod(meta.shape[1:], dtype=object)) * meta.dtype.itemsize for meta in buffer.arrays.values()
        )
        spans = (buffer.span(number) for number in range(len(buffer.ends)))
        return [EpisodeRef(f"episode_{n:06d}", row * (stop - start)) for n, (start, stop) in enumerate(spans)]

    def states(self, refs: Sequence[EpisodeRef]) -> Mapping[str, object]:
        """See `BaseSource`: of metadata, and of all its chunks."""
        numbers = {ref.id: self._number(ref) for ref in refs}
        found = self._buffer.states(numbers.values())
        return {name: found[number] for name, number in numbers.items()}

    def time_steps(self, refs: Sequence[EpisodeRef]) -> NDArray[np.float64]:
        """See `BaseSource`: from ``timestamp``."""
        buffer = self._buffer
        meta = buffer.arrays.get(_TIMES)
        if meta is None or len(meta.shape) != 1 or meta.dtype.kind != "f":
            return np.zeros(0)
        spans = (buffer.span(self._number(ref)) for ref in refs)
        steps = [np.diff(buffer.rows(meta, start, stop).array().astype(np.float64)) for start, stop in spans]
        return np.concatenate(steps) if steps else np.zeros(0)

    def fingerprint(self, ref: EpisodeRef) -> str:
        """SHA-256 over the episode's rows and the chunks that they are in, as they are stored."""
        return self._buffer.episode(self._number(ref), lambda name: False)[1]

    def _number(self, ref: EpisodeRef) -> int:
        found = _ID.fullmatch(ref.id)
        if not found or int(found[1]) >= len(self._buffer.ends):
            raise UsageError("E007", f"the buffer has no episode {show(ref.id)}")
        return int(found[1])

    def read(self, ref: EpisodeRef) -> Episode:
        """Read one episode. See `vla_data.core.Source`.

        Raises:
            DataError: E105 for a damaged chunk, E201 and E202 for numbers, E211 without an instruction.
        """
        number, buffer = self._number(ref), self._buffer
        start, stop = buffer.span(number)
        found, sha256 = buffer.episode(number, self._is_wanted)
        notes = [f"left_out:{name}" for name in buffer.arrays if not self._is_chosen(name)]
        notes += [f"left_out_as_a_group:{name}" for name in buffer.left_out]
        arrays: dict[str, Array] = {}
        frames: dict[str, Frames] = {}
        try:
            waiting = {
                name for name, rows in found.items() if self._is_camera(name, rows) and rows.is_of_whole_rows
            }
            if (size := sum(rows.nbytes for name, rows in found.items() if name not in waiting)) > MAX_EPISODE:
                raise DataError("E107", f"the episode has {size:,} bytes of numbers, more than {MAX_EPISODE:,}")
            for name, rows in found.items():
                if rows.absent:
                    notes.append(f"absent_chunks:{name}")
                self._take(name, rows, arrays, frames, notes)
            for name, array in arrays.items():
                is_action = name == "action" or name.startswith("action.")
                check_numbers(name, array, self.action_limit if is_action else np.inf)
            task = instruction(self.task or "", allow_empty=self.allow_empty_instruction, lines=True)
        except DataError as error:
            error.source_sha256, error.frames = sha256, stop - start
            raise
        return Episode(
            id=ref.id,
            arrays=arrays,
            frames=frames,
            task=task,
            index=np.arange(stop - start),
            meta=EpisodeMeta(source="zarr", source_length=stop - start, source_sha256=sha256),
            notes=tuple(notes),
        )

    def _take(
        self, name: str, rows: Rows, arrays: dict[str, Array], frames: dict[str, Frames], notes: list[str]
    ) -> None:
        """Put an array where it belongs."""
        shape, camera = rows.meta.shape[1:], f"observation.images.{name}"
        if self._is_camera(name, rows):
            items = rows.pictures() or tuple(rows.array())
            frames[camera] = Frames(items, shape[0], shape[1])
            return
        array = rows.array()
        if _may_be_pictures(name, shape) and array.dtype.kind == "f" and _is_pixels(array):
            frames[camera] = Frames(tuple(array.astype(np.uint8)), shape[0], shape[1])
            notes.append(f"camera_from_numbers:{camera}")
            return
        arrays[_name(name)] = array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))

    def _is_camera(self, name: str, rows: Rows) -> bool:
        """Whether these are pictures as they are stored, which wait until somebody looks at them."""
        wanted = f"observation.images.{name}" not in self.unwanted
        return wanted and rows.meta.dtype == np.uint8 and _may_be_pictures(name, rows.meta.shape[1:])

    def _is_chosen(self, name: str) -> bool:
        return not any(fnmatchcase(name, pattern) for pattern in self.leave_out)

    def _is_wanted(self, name: str) -> bool:
        meta, numbers, camera = self._buffer.arrays[name], _name(name), f"observation.images.{name}"
        if not _may_be_pictures(name, meta.shape[1:]):
            may_be = [numbers]
        else:  # floats may be either, by their values
            may_be = [camera] if meta.dtype == np.uint8 else [numbers, camera]
        return self._is_chosen(name) and not all(one in self.unwanted for one in may_be)

    def schema(self, episode: Episode) -> Schema:
        """The features; what they mean is not in the files.

        Raises:
            UsageError: E231, nothing says how many steps a second there are.
        """
        return described(episode, self._rate())

    def not_asking(self, facts: Collection[str]) -> ZarrSource:
        """See `vla_data.core.base.BaseSource`."""
        return replace(self, unneeded=frozenset(facts))

    def _rate(self) -> float:
        if self.fps is not None:
            return self.fps
        kept: dict[str, Any] = vars(self)
        if "_told_rate" not in kept:
            steps = self.time_steps(self.episodes())
            middle = float(np.median(steps)) if len(steps) else 0.0
            even = middle > 0 and np.mean(np.abs(steps - middle) <= _UNEVEN * middle) > 0.5
            kept["_told_rate"] = round(1 / middle, 3) if even else None
        rate: float | None = kept["_told_rate"]
        if rate is None and "fps" not in self.unneeded:
            raise UsageError("E231", "the buffer does not say how many steps a second it has; declare it (--fps)")
        return rate or 0.0


def _name(array: str) -> str:
    """What an array of numbers is called here."""
    if array == "action":
        return array
    if part := re.fullmatch(r"action[_.](.+)", array):
        return f"action.{part[1]}"
    return "next.reward" if array == "reward" else f"observation.{array}"


def _may_be_pictures(name: str, shape: tuple[int, ...]) -> bool:
    """Whether rows of this shape are pictures, if their numbers are colours."""
    return name != "action" and len(shape) == 3 and shape[2] == 3 and 0 < min(shape) <= max(shape) <= MAX_SIDE


def _is_pixels(array: NDArray[Any]) -> bool:
    """Whether these numbers are colours of 0 to 255."""
    with np.errstate(invalid="ignore"):
        return bool(((array >= 0) & (array <= 255) & (array == np.trunc(array))).all())
