"""Pruning of steps in which the robot hardly moves.

The rule is RL4VLA's (thresholds per control step at 5 Hz, strict ``>``), with gripper switches kept from step
0 on. It is applied once, to every step of the source at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.actions.convention import UNDECLARED, Convention
from vla_data.core import Episode, Schema
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show
from vla_data.steps.gripper import gripper_events

_NUMBERS: Final = 7
_JOINTS: Final = re.compile(r"joint|shoulder|elbow|waist|wrist|motor|servo|forearm|base_link|actuator")
RATE: Final = 5.0
"""Steps a second of RL4VLA's environments, whose thresholds are the defaults."""
_DEFAULTS: Final = (0.01, 0.06)


def moves(action: NDArray[np.floating], *, pos: float | None, rot: float | None) -> NDArray[np.bool_]:
    """``(T,)``: whether the translation is longer than ``pos`` or the rotation larger than ``rot``.

    A threshold of None switches its test off; with both None every step moves. Norms are computed and compared in
    the action's own precision, so a float32 step of exactly 0.07 is not above 0.07. Integers and half precision,
    whose squares wrap or overflow, are floats of 64 and 32 bits here.

    Args:
        action: ``(T, 7)``: translation, rotation, gripper.
        pos: in the action's translation unit.
        rot: in the action's rotation unit.
    """
    if pos is None and rot is None:
        return np.ones(len(action), dtype=np.bool_)
    exact = action.dtype.type if action.dtype.kind == "f" else np.float64
    if action.dtype.kind != "f" or action.dtype.itemsize < 4:
        action = action.astype(np.float32 if action.dtype.kind == "f" else np.float64)
    out = np.zeros(len(action), dtype=np.bool_)
    for columns, limit in ((slice(0, 3), pos), (slice(3, 6), rot)):
        if limit is not None:
            x, y, z = action[:, columns].T
            # Spelled out, because BLAS rounds differently from machine to machine.
            out |= np.sqrt(x * x + y * y + z * z) > exact(limit)
    return out


def check_meaning(step: Any, schema: Schema, *, initial: float | None = None) -> None:
    """That thresholds in metres and radians a step, and a gripper in force, are of what is declared of ``action``.

    Args:
        step: with ``pos`` and ``rot``.
        schema: of what the step is applied to.
        initial: the gripper command in force before step 0.

    Raises:
        UsageError: E232, they are of something else. What is undeclared is taken for metres and radians.
    """
    feature = schema.features.get("action")
    convention = Convention.from_json(feature.convention) if feature is not None else Convention()
    parts = convention.layout
    for name, value, part, at, unit in (
        ("pos_thresh", step.pos, "translation", (0, 1, 2), ("translation_unit", "m")),
        ("rot_thresh", step.rot, "rotation", (3, 4, 5), ("rotation_unit", "rad")),
    ):
        if value is None or not feature or not feature.convention:
            continue
        if parts and parts.get(part) != at:
            raise UsageError(
                "E232", f"{name} is of a {part} in numbers {list(at)} of an action; {_found(parts, part)}"
            )
        if convention.kind not in ("delta", UNDECLARED):
            raise UsageError(
                "E232", f"{name} is of a motion in a step, and the actions are declared as kind {convention.kind}"
            )
        found = getattr(convention, unit[0])
        if found not in (unit[1], UNDECLARED):
            raise UsageError(
                "E232",
                f"{name} is in {unit[1]}, and {unit[0]} of the actions is {found}; convert them first "
                f"(--actions physical), or switch it off ({name} none)",
            )
    tested = step.pos is not None or step.rot is not None
    joints = [name for name in (feature.names or ())[:6] if _JOINTS.search(name.lower())] if feature else []
    if tested and joints and not parts:
        raise UsageError(
            "E232",
            f"small actions are told by a translation and a rotation, and {show(', '.join(joints))} of the action "
            "are joints by their names; pos_thresh none and rot_thresh none (--pos-thresh none --rot-thresh none) "
            "keep every step",
        )
    if tested and initial is not None and initial == convention.gripper_closed:
        raise UsageError(
            "E232",
            f"initial_gripper is {initial:g}, which is declared to be closed; give "
            f"{convention.gripper_open:g} for open, or none for unknown",
        )


def _found(parts: Mapping[str, tuple[int, ...]], part: str) -> str:
    where = f"it is in {list(parts[part])}" if part in parts else f"there is {', '.join(parts)}"
    return f"{where}, so switch it off (none)"


def set_thresholds(step: Any) -> None:
    """Check ``pos`` and ``rot`` of a frozen step, and make them floats, so that equal recipes look alike."""
    for name in ("pos", "rot"):
        value = getattr(step, name)
        if value is not None:
            object.__setattr__(step, name, checks.number(f"{name}_thresh", value, low=0))


@dataclass(frozen=True, kw_only=True)
class SmallActions:
    """Drops the steps that neither move nor switch the gripper.

    Attributes:
        pos: metres; None switches the test of the translation off.
        rot: radians; None switches the test of the rotation off.
        initial_gripper: the gripper command in force before step 0, RL4VLA's +1 (open); None: unknown.
        hysteresis: see `vla_data.steps.gripper_events`.
        window: steps before and after a gripper event that are kept too.
    """

    pos: float | None = _DEFAULTS[0]
    rot: float | None = _DEFAULTS[1]
    initial_gripper: float | None = 1.0
    hysteresis: tuple[float, float] | None = None
    window: int = 0
    bucket: ClassVar[str] = "pruned"
    reason: ClassVar[str] = "small_action"

    def __post_init__(self) -> None:
        set_thresholds(self)
        if self.initial_gripper is not None:
            object.__setattr__(self, "initial_gripper", checks.number("initial_gripper", self.initial_gripper))
        if self.hysteresis is not None:
            object.__setattr__(self, "hysteresis", checks.pair("gripper_hysteresis", self.hysteresis))
        checks.whole("gripper_window", self.window, low=0)

    def describe(self, schema: Schema) -> Schema:
        """The same schema.

        Raises:
            UsageError: see `check_meaning`.
        """
        check_meaning(self, schema, initial=self.initial_gripper)
        return schema

    def remarks(self, schema: Schema) -> list[str]:
        """That the default thresholds are of steps of another length."""
        if (self.pos, self.rot) != _DEFAULTS or schema.fps == RATE:
            return []
        pos, rot = (value * RATE / schema.fps for value in _DEFAULTS)
        return [
            f"small actions are told by the motion of a step, by default that of {RATE:g} steps a second; of "
            f"{schema.fps:g} a second, --pos-thresh {pos:.3g} --rot-thresh {rot:.3g} is the same speed"
        ]

    def keep(self, action: NDArray[np.floating]) -> NDArray[np.bool_]:
        """``(T,)``: which steps stay.

        Raises:
            ValueError: an action is not finite; no comparison may decide about it.
            DataError: E203 for an action of other than seven numbers, unless both tests are switched off.
        """
        if not np.isfinite(action).all():
            raise ValueError("an action that is not finite can't be pruned or kept by its size")
        if len(action) == 0:
            return np.zeros(0, dtype=np.bool_)
        if self.pos is None and self.rot is None:
            return np.ones(len(action), dtype=np.bool_)
        if action.shape[1:] != (_NUMBERS,):
            raise DataError(
                "E203",
                f"action has {action.shape[1:]} a step; small actions are found among {_NUMBERS} numbers only "
                "(translation, rotation, gripper); --pos-thresh none --rot-thresh none keeps every step",
            )
        events = gripper_events(action[:, 6], initial=self.initial_gripper, hysteresis=self.hysteresis)
        near = np.convolve(events, np.ones(2 * self.window + 1), mode="full") > 0
        return moves(action, pos=self.pos, rot=self.rot) | near[self.window : self.window + len(action)]

    def apply(self, episode: Episode) -> Episode:
        """The episode without the small steps; may be empty."""
        return episode.take(np.flatnonzero(self.keep(episode.arrays["action"])))
