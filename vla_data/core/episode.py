"""The record and its description.

``T`` is the number of steps of an episode. A step ``t`` holds what was seen before action ``t``, the action, and
what came of it (``next.*``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data.core.meta import EpisodeMeta
from vla_data.errors import DataError
from vla_data.media.frames import Frames
from vla_data.safety import strict_json

Json = Any
Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What one array means, per step.

    Attributes:
        dtype: NumPy's name of the element type, or ``image``.
        shape: of one step, for example ``(7,)`` or ``(480, 640, 3)``.
        names: of the elements, or None.
        convention: unit, frame, rotation, gripper polarity and the like, by the words of
            ``docs/conventions.md``; empty where nothing is declared.
    """

    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    convention: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary with sorted, JSON-ready content."""
        return {
            "dtype": self.dtype,
            "shape": list(self.shape),
            "names": list(self.names) if self.names else None,
            "convention": dict(sorted(self.convention.items())),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What every episode of a dataset holds.

    Attributes:
        features: name (LeRobot's: ``observation.images.<camera>``, ``action``, ...) -> feature.
        fps: control rate in steps per second; 0 where nobody says it and whoever reads does not need it.
        robot: robot type, or None where it is not known.
    """

    features: Mapping[str, Feature]
    fps: float
    robot: str | None = None

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary with sorted, JSON-ready content."""
        return {
            "features": {name: self.features[name].to_json() for name in sorted(self.features)},
            "fps": self.fps,
            "robot": self.robot,
        }

    def to_text(self) -> str:
        """One line of JSON, equal for equal schemas."""
        return json.dumps(self.to_json(), sort_keys=True)

    @classmethod
    def read(cls, path: Path, *, root: Path) -> Schema:
        """What a file with the text of `to_text` says, which must be a regular file under ``root``.

        Raises:
            DataError: E131, E133 or E141; KeyError, TypeError, ValueError: it is another kind of JSON.
        """
        return cls._from_json(strict_json.read(path, root=root))

    @classmethod
    def from_text(cls, text: str) -> Schema:
        """What `to_text` was made from."""
        return cls._from_json(json.loads(text))

    @classmethod
    def _from_json(cls, facts: Json) -> Schema:
        features = {
            name: Feature(
                dtype=feature["dtype"],
                shape=tuple(feature["shape"]),
                names=tuple(feature["names"]) if feature["names"] else None,
                convention=feature["convention"],
            )
            for name, feature in facts["features"].items()
        }
        return cls(features=features, fps=facts["fps"], robot=facts["robot"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One trajectory. Frozen: a step of a recipe returns a new one.

    Attributes:
        id: stable name, relative to the source and free of machine paths.
        arrays: name -> array of shape ``(T, ...)``.
        frames: feature name -> ``T`` images.
        task: the instruction, exactly as given.
        index: ``(T,)`` int64, the position of each step in the source; the one timeline of everything.
        final: feature name -> what was seen after the last action: one image, or an array ``(1, ...)``; empty
            where there is nothing.
        meta: facts of the whole episode, with declared names; a plain dictionary becomes an `EpisodeMeta`.
        notes: what was fixed by a declared rule on the way, as codes.
    """

    id: str
    arrays: Mapping[str, Array]
    frames: Mapping[str, Frames]
    task: str
    index: NDArray[np.int64]
    final: Mapping[str, Frames | Array] = field(default_factory=dict)
    meta: EpisodeMeta = field(default_factory=EpisodeMeta)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if type(self.meta) is not EpisodeMeta:
            object.__setattr__(self, "meta", EpisodeMeta(self.meta))
        lengths = {name: len(array) for name, array in self.arrays.items()}
        lengths |= {name: len(frames) for name, frames in self.frames.items()}
        wrong = {name: n for name, n in lengths.items() if n != len(self.index)}
        if wrong:
            listed = ", ".join(f"{name} has {n}" for name, n in wrong.items())
            raise ValueError(
                f"episode {self.id!r} has {len(self.index)} steps in index, but {listed}; all must be alike"
            )

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: NDArray[np.int64]) -> Episode:
        """The steps at these positions (of this episode, not of the source), everything together."""
        ends = len(index) > 0 and int(index[-1]) == len(self) - 1
        return replace(
            self,
            final=self.final if ends else {},
            arrays={name: array[index] for name, array in self.arrays.items()},
            frames={name: frames.take(index) for name, frames in self.frames.items()},
            index=self.index[index],
        )

    @property
    def success_after(self) -> NDArray[np.bool_]:
        """``(T,)``: whether the task was solved right after action ``t`` (``next.success``, true or 1).

        Raises:
            DataError: E205, a flag is neither 0 nor 1.
        """
        success = self.arrays["next.success"]
        if success.dtype.kind != "b" and not np.isin(success, (0, 1)).all():
            raise DataError("E205", "next.success has values other than 0 and 1")
        return np.asarray(success.reshape(len(self)), dtype=np.bool_)

    @property
    def succeeded(self) -> bool | None:
        """Whether the task was solved right after any action; without such flags, what the source says of the
        whole episode (`EpisodeMeta.success`); None where nobody says.
        """
        success = self.arrays.get("next.success")
        return self.meta.success if success is None else bool(np.any(success))


def iter_spans(index: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of consecutive integers in a sorted index, as half-open ``(start, stop)`` pairs."""
    if len(index) == 0:
        return
    breaks = np.flatnonzero(np.diff(index) != 1)
    starts = np.concatenate(([0], breaks + 1))
    stops = np.concatenate((breaks, [len(index) - 1]))
    for start, stop in zip(starts, stops, strict=True):
        yield int(index[start]), int(index[stop]) + 1
