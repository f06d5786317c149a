"""Another number of steps per second, without making up what was commanded.

Of ``T`` steps at rate f, ``n = floor((T - 1) f' / f) + 1`` remain at rate f'; step k of them is at source
position ``x = k (T - 1) / (n - 1)``. (The first and the last step always stay, so that a step is longer than 1
/ f' by one part in n - 1 at most.) A single step that remains of several is the first, and stands for all of
them. What is shown is the nearest source step, ``floor(x + 1/2)``. What is commanded, or comes of it, belongs
to a *window*: fewer steps put every source step into the window of the one shown before it; more steps divide
every source step among those from it to the next.

    commands: delta, velocity   fewer: composed (translations and joints add up, rotations multiply)
                                more: divided into equal parts; either way the displacement stays the same
    commands: absolute          fewer: the last of the window; more: on the way from the command before, in a
                                straight line (translation, joints) or along the shortest arc (rotation)
    observations: absolute      fewer: as shown; more: between the two neighbours, likewise
    grippers, text, bool, int, images, what is not declared      the one that is shown
    next.reward                 fewer: added up; more: at the last step of the window, 0 before
    next.success                fewer: any of the window; more: the flag before, until the last step of the window
    next.done, .terminated, .truncated      fewer: any; more: at the last step of the window only
    next.discount               fewer: multiplied; more: at the last step of the window, 1 before
    other next.*                fewer: any for bool, else the last of the window; more: that of the window

Deltas whose unit is a controller's input become metres and radians: an input is at most 1, and a composed motion
is larger. Composed deltas that count from the measured state mean that each step of the window reached its goal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.actions import rotations as rot
from vla_data.actions import units
from vla_data.actions.convention import UNDECLARED, Convention, arm, missing, quantity
from vla_data.actions.rotations import Floats
from vla_data.core import Array, Episode, EpisodeMeta, Json, Schema
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show

Positions = NDArray[np.int64]

_WHOLE: Final = 1e-9
"""How far a sum of whole numbers may be off one because of rounding."""
_ENDS: Final = ("next.done", "next.terminated", "next.truncated")


def positions(steps: int, source_fps: float, fps: float) -> Positions:
    """``(n,)``: the source step that each new step shows; never decreasing."""
    ratio = Fraction(fps).limit_denominator(10**6) / Fraction(source_fps).limit_denominator(10**6)
    if steps == 0:
        return np.zeros(0, dtype=np.int64)
    n = int((steps - 1) * ratio) + 1
    if n == 1:
        return np.zeros(1, dtype=np.int64)
    # Whole numbers, so that halves round up on every machine.
    return (2 * np.arange(n, dtype=np.int64) * (steps - 1) + n - 1) // (2 * (n - 1))


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Changes the number of steps per second; the module says how.

    Attributes:
        conventions: feature -> its convention, as in the schema. Actions need one; observations may have one.
        source_fps: steps per second of the episodes.
        fps: steps per second that they get.
    """

    conventions: Mapping[str, Mapping[str, Json]]
    source_fps: float
    fps: float
    bucket: ClassVar[str] = "pruned"
    reason: ClassVar[str] = "resample"

    def __post_init__(self) -> None:
        for name in ("source_fps", "fps"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name), low=1e-3, high=1e6))
        # Sorted plain copies: equal recipes look alike, and nobody changes them from outside.
        plain = {
            name: json.loads(json.dumps(dict(self.conventions[name]), sort_keys=True)) for name in self.conventions
        }
        object.__setattr__(self, "conventions", dict(sorted(plain.items())))
        for name in plain:
            if _is_action(name):
                self._action(name)

    def apply(self, episode: Episode) -> Episode:
        """The episode at the new rate; its ``index`` names the source step that each step shows."""
        if self.fps == self.source_fps or len(episode) == 0:
            return episode
        shown = positions(len(episode), self.source_fps, self.fps)
        window = _Windows.of_shown(len(episode), shown)
        arrays = {name: self._array(name, array, shown, window) for name, array in episode.arrays.items()}
        return replace(
            episode,
            arrays=arrays,
            frames={name: frames.take(shown) for name, frames in episode.frames.items()},
            index=episode.index[shown],
            meta=EpisodeMeta(episode.meta, resampled={"from": self.source_fps, "to": self.fps}),
        )

    def describe(self, schema: Schema) -> Schema:
        """The schema at the new rate.

        Raises:
            UsageError: E232 when it is of another source.
        """
        if schema.fps != self.source_fps:
            raise UsageError("E232", f"the data has {schema.fps:g} steps a second, not {self.source_fps:g}")
        if self.fps == self.source_fps:
            return schema
        features = {}
        for name, feature in schema.features.items():
            if _is_action(name) and feature.dtype != "image":
                facts = self._action(name).at_rate(self.fps).to_json()
                if "control_rate" not in feature.convention:
                    facts.pop("control_rate", None)
            else:
                facts = dict(feature.convention)
                if "control_rate" in facts:
                    facts["control_rate"] = self.fps
            features[name] = replace(feature, convention=facts)
        return replace(schema, features=features, fps=self.fps)

    def _action(self, name: str) -> Convention:
        """The convention of commands, complete as far as resampling needs it."""
        if name not in self.conventions:
            raise missing(f"the convention of {name}")
        convention = Convention.from_json(self.conventions[name])
        if not convention.layout:
            raise missing(f"{name}'s layout")
        has = {quantity(part) for part in convention.layout}
        if not has & {"translation", "rotation", "joints"}:
            return convention
        if convention.kind == UNDECLARED:
            raise missing(f"{name}'s kind (delta, absolute or velocity)")
        if convention.kind != "absolute" and convention.reference == "chunk_start":
            raise UsageError("E232", f"{name} counts from the start of a chunk: convert it to deltas first")
        if "rotation" in has:
            if convention.rotation == UNDECLARED:
                raise missing(f"{name}'s rotation")
            if convention.kind != "absolute" and (convention.rotation_frame or convention.frame) == UNDECLARED:
                raise missing(f"{name}'s frame")
        rate = convention.control_rate
        if rate is not None and abs(rate - self.source_fps) > 1e-3 * rate:
            raise UsageError(
                "E232", f"the convention of {name} says {rate:g} steps a second, the data has {self.source_fps:g}"
            )
        return replace(convention, control_rate=self.source_fps)

    def _array(self, name: str, array: Array, shown: Positions, window: _Windows) -> Array:
        if name.startswith("next."):
            return _outcome(name, array, window)
        if _is_action(name) and array.dtype.kind in "fiu":
            meaning = self._action(name)
            if array.dtype.kind == "f" or meaning.kind != "absolute":
                return _stored(name, self._commands(array, meaning, shown, window), array.dtype)
        if array.dtype.kind != "f":
            return array[shown]
        if window.fewer or array.ndim != 2 or "layout" not in self.conventions.get(name, {}):
            return array[shown]
        convention = Convention.from_json(self.conventions[name])
        if array.shape[1] != convention.width:
            raise DataError("E203", f"{name} has {array.shape[1]} numbers; its convention has {convention.width}")
        rows = array.astype(np.float64)
        low = window.start
        high = np.minimum(low + 1, window.steps - 1)
        values = _between(rows, rows[shown], convention, low, high, window.way)
        return values.astype(array.dtype)

    def _commands(self, array: Array, convention: Convention, shown: Positions, window: _Windows) -> Floats:
        if array.ndim != 2 or array.shape[1] != convention.width:
            raise DataError("E203", f"an action of shape {array.shape[1:]}; its convention has {convention.width}")
        rows = array.astype(np.float64)
        out = rows[shown]
        if convention.kind == "absolute":
            if window.fewer:
                return _last(rows, out, convention, window)
            before = np.maximum(window.start - 1, 0)
            return _between(rows, out, convention, before, window.start, window.part / window.parts)
        result = convention.at_rate(self.fps)
        for prefix in {arm(part) for part in convention.layout}:
            parts = {quantity(p): np.asarray(at) for p, at in convention.layout.items() if arm(p) == prefix}
            turn = None
            if "rotation" in parts:
                values = units.angles_from(rows[:, parts["rotation"]], convention)
                if convention.rotation_delta == "angle_difference":
                    values = window.add(values)
                else:
                    turn = rot.to_quaternion(values, convention.rotation)
                    turns = (convention.rotation_frame or convention.frame) == "end_effector"
                    values = rot.from_quaternion(window.multiply(turn, turns=turns), convention.rotation)
                out[:, parts["rotation"]] = units.angles_to(values, result, saturate=False)
            if "translation" in parts:
                metres = units.translation_from(rows[:, parts["translation"]], convention)
                if convention.frame == "end_effector":
                    moved = window.add_turning(metres, turn)
                else:
                    moved = window.add(metres)
                out[:, parts["translation"]] = units.translation_to(moved, result, saturate=False)
            if "joints" in parts:
                radians = units.joints_from(rows[:, parts["joints"]], convention)
                out[:, parts["joints"]] = units.joints_to(window.add(radians), result)
        return out


@dataclass(frozen=True, slots=True)
class _Windows:
    """Which source steps belong to which new step.

    With fewer steps, step k has the source steps ``start[k]`` to ``stop[k]``. With more, new step k is part
    ``part[k]`` of ``of[k]`` of the source step ``start[k]``.
    """

    fewer: bool
    steps: int
    start: Positions
    stop: Positions
    part: Positions
    parts: Positions

    @classmethod
    def of_shown(cls, steps: int, shown: Positions) -> _Windows:
        n = len(shown)
        if n <= steps:
            one = np.ones(n, dtype=np.int64)
            return cls(True, steps, shown, np.append(shown[1:], steps), one, one)
        start = np.arange(n, dtype=np.int64) * (steps - 1) // (n - 1)
        count = np.bincount(start, minlength=steps)
        first = np.cumsum(count) - count
        part = np.arange(n, dtype=np.int64) - first[start] + 1
        return cls(False, steps, start, start + 1, part, count[start])

    @property
    def complete(self) -> NDArray[np.bool_]:
        """Whether the source step is over with this new step."""
        return np.asarray(self.part == self.parts)

    @property
    def way(self) -> Floats:
        """How far after the source step ``start[k]`` new step k is, of the way to the next; below 1."""
        last = len(self.start) - 1
        return np.asarray(np.arange(last + 1) * (self.steps - 1) % last / last)

    def add(self, values: Floats) -> Floats:
        """Sums, or equal parts."""
        if not self.fewer:
            return np.asarray(values[self.start] / self.parts[:, None])
        return np.asarray(np.add.reduceat(values, self.start, axis=0))

    def multiply(self, turn: Floats, *, turns: bool) -> Floats:
        """Products, the later from the left (``turns``: from the right), or equal parts."""
        if not self.fewer:
            vector = rot.from_quaternion(turn, "rotvec")[self.start] / self.parts[:, None]
            return rot.to_quaternion(vector, "rotvec")
        out = turn[self.start]
        for later in range(1, int((self.stop - self.start).max())):
            k = np.flatnonzero(self.start + later < self.stop)
            step = turn[self.start[k] + later]
            out[k] = rot.multiply(out[k], step) if turns else rot.multiply(step, out[k])
        return out

    def add_turning(self, values: Floats, turn: Floats | None) -> Floats:
        """Sums of translations along axes that turn with each step."""
        if turn is None:
            raise missing("the rotation that turns the end effector's axes")
        if not self.fewer:
            # A part of the way is along the axes as they have turned by then.
            vector = rot.from_quaternion(turn, "rotvec")[self.start]
            back = rot.to_quaternion(-vector * ((self.part - 1) / self.parts)[:, None], "rotvec")
            return rot.rotate(back, values[self.start] / self.parts[:, None])
        out = values[self.start]
        now = turn[self.start]
        for later in range(1, int((self.stop - self.start).max())):
            k = np.flatnonzero(self.start + later < self.stop)
            at = self.start[k] + later
            out[k] += rot.rotate(now[k], values[at])
            now[k] = rot.multiply(now[k], turn[at])
        return out


def _is_action(name: str) -> bool:
    return name == "action" or name.startswith("action.")


def _last(rows: Floats, out: Floats, convention: Convention, window: _Windows) -> Floats:
    """Absolute commands: where the window ends; grippers as shown."""
    for part, at in convention.layout.items():
        if quantity(part) in ("translation", "rotation", "joints"):
            out[:, at] = rows[window.stop - 1][:, at]
    return out


def _between(
    rows: Floats, out: Floats, convention: Convention, low: Positions, high: Positions, share: Floats
) -> Floats:
    """Absolute values on the way from ``low`` to ``high``, where there is a way; else as they are in ``out``."""
    if convention.kind != "absolute":
        return out
    for part, at in convention.layout.items():
        one, other = rows[low][:, at], rows[high][:, at]
        if quantity(part) in ("translation", "joints"):
            # Exact at both ends, also where the numbers are far apart.
            out[:, at] = one * (1 - share[:, None]) + other * share[:, None]
        elif quantity(part) == "rotation" and convention.rotation != UNDECLARED:
            a = rot.to_quaternion(units.angles_from(one, convention), convention.rotation)
            b = rot.to_quaternion(units.angles_from(other, convention), convention.rotation)
            values = rot.from_quaternion(rot.slerp(a, b, share), convention.rotation)
            values = units.angles_to(values, convention, saturate=False)
            # A rotation has several spellings; where nothing changes, it keeps its own.
            values = np.where((share == 0)[:, None], one, np.where((share == 1)[:, None], other, values))
            out[:, at] = np.where((one == other).all(axis=1, keepdims=True), one, values)
    return out


def _stored(name: str, values: Floats, dtype: np.dtype[Any]) -> Array:
    """What was computed, in the type that it came in.

    Raises:
        DataError: E202, that type does not hold it.
    """
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            out = values.astype(dtype)
        held = np.isfinite(out) | ~np.isfinite(values)
    else:
        bounds = np.iinfo(dtype)
        whole = np.rint(values)
        held = (np.abs(values - whole) < _WHOLE) & (whole >= bounds.min) & (whole <= bounds.max)
        out = np.where(held, whole, 0).astype(dtype)
    if not held.all():
        step = int(np.argwhere(~held)[0][0])
        raise DataError("E202", f"{show(name)} of step {step} is {values[~held][0]:g}, which {dtype} can't hold")
    return out


def _outcome(name: str, array: Array, window: _Windows) -> Array:
    """What came of the commands of each window."""
    boolean = array.dtype.kind == "b"
    total = {"next.reward": np.add, "next.discount": np.multiply}.get(name)
    if array.dtype.kind not in "fiu":
        total = None
    if window.fewer:
        if boolean:
            return np.asarray(np.logical_or.reduceat(array, window.start, axis=0))
        if total is not None:
            return _stored(name, total.reduceat(array.astype(np.float64), window.start, axis=0), array.dtype)
        return array[window.stop - 1]
    now = array[window.start]
    complete = window.complete.reshape(-1, *[1] * (array.ndim - 1))
    if total is not None:
        return np.where(complete, now, array.dtype.type(total.identity))
    if boolean and name in _ENDS:
        return np.where(complete, now, False)
    if boolean:
        before = np.concatenate((np.zeros_like(array[:1]), array[:-1]))
        return np.where(complete, now, before[window.start])
    return now
