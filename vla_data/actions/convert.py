"""Actions of one convention in another, where the two determine each other; else a refusal by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data.actions import units
from vla_data.actions.alike import (
    fixed_frame,
    holds,
    motion_of,
    numbers_of,
    only_frames,
    same_angles,
    turns_nothing,
)
from vla_data.actions.base import base_pose
from vla_data.actions.convention import UNDECLARED, Convention, arm, missing, quantity, resolve
from vla_data.actions.motion import FIXED, IDENTITY, Pose, Rule, motions_of, moved, poses_of, refuse_zero
from vla_data.actions.rotations import Floats, from_quaternion, is_angles, to_quaternion
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show


def convert(
    actions: NDArray[Any],
    source: Convention,
    target: Convention,
    *,
    state: NDArray[Any] | None = None,
    state_convention: Convention | None = None,
    base: NDArray[Any] | None = None,
    saturate: bool = False,
) -> Floats:
    """The same actions by another convention, ``(T, target.width)`` float64.

    What ``target`` leaves undeclared stays as it is in ``source``; `resolve` of the two is the convention of the
    result, which belongs into its `Feature`. Numbers that both conventions write alike are copied. See
    `vla_data.actions.units` for what a round trip keeps exactly.

    Args:
        actions: ``(T, source.width)``: an episode, or ``(N, H, source.width)``: chunks, one a row.
        source: what they mean.
        target: what they shall mean.
        state: ``(T, P)`` or ``(T + 1, P)``: measured before each action. For chunks ``(N, P)`` at the start of
            each, or ``(N, H, P)``. Only conversions that need it look at it.
        state_convention: what ``state`` means; absolute.
        base: pose of the robot's base in the world, for conversions between these two frames; see
            `vla_data.actions.base.base_pose`.
        saturate: bring what the target's controller can't do to the nearest that it can, instead of refusing. A
            turn of 0 for a controller that holds at 0 has no nearest one, and is refused all the same.

    Raises:
        UsageError: E231 undeclared (a fact is missing), E232 not convertible (an argument, or a part, is).
        DataError: E201 for numbers that are not finite, E202 for such that the target can't express.
    """
    values = np.asarray(actions, dtype=np.float64)
    if not source.layout:
        raise missing("the source's layout")
    if values.ndim not in (2, 3) or values.shape[-1] != source.width:
        raise UsageError(
            "E232",
            f"the actions have shape {values.shape}; the source's convention is for (steps, {source.width})",
        )
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0].tolist()
        raise DataError("E201", f"action {bad[:-1]}, number {bad[-1]} is not finite")
    result = resolve(source, target)
    _check(source, result)
    chunks = values.ndim == 3
    rows = values if chunks else values[None]
    known = _State(state, state_convention, base, rows.shape[1] if chunks else None)
    out = np.zeros((*rows.shape[:-1], result.width))
    for name, positions in source.layout.items():
        part = rows[..., positions]
        kind = quantity(name)
        if kind == "gripper":
            part = units.gripper(part, source, result, saturate=saturate)
        elif kind == "joints":
            part = _joints(part, name, source, result, known, chunks=chunks)
        if kind not in ("translation", "rotation"):
            out[..., result.layout[name]] = part
    for prefix in {arm(name): None for name in source.layout if quantity(name) in ("translation", "rotation")}:
        job = _Arm(prefix, source, result, known, rows, chunks, saturate)
        for name, part in job.converted().items():
            out[..., result.layout[name]] = part
    return out if chunks else out[0]


@dataclass(frozen=True, slots=True)
class _State:
    """The measured state, looked at only when it is needed."""

    values: NDArray[Any] | None
    convention: Convention | None
    base: NDArray[Any] | None
    chunk: int | None

    def pose(self, prefix: str, frame: str, need: str) -> Pose:
        """The pose of an arm in the axes of ``frame``."""
        rows, convention = self._rows(need)
        if convention.frame == UNDECLARED:
            raise missing("the state's frame")
        parts = {quantity(n): rows[..., p] for n, p in convention.layout.items() if arm(n) == prefix}
        position = rotation = None
        if "translation" in parts:
            position = units.translation_from(parts["translation"], convention)
        if "rotation" in parts:
            rotation = to_quaternion(units.angles_from(parts["rotation"], convention), convention.rotation)
        pose = Pose(position=position, rotation=rotation)
        if convention.frame == frame:
            return pose
        return moved(pose, self.base_pose(frame, convention.frame), motion=False, back=frame == "robot_base")

    def joints(self, name: str, need: str) -> Pose:
        """The joints that an action's part moves."""
        rows, convention = self._rows(need)
        if name not in convention.layout:
            raise UsageError("E232", f"the state has no {show(name)!r}, which {need}")
        return Pose(position=units.joints_from(rows[..., convention.layout[name]], convention))

    def base_pose(self, one: str, other: str) -> Floats:
        """The pose of the base, for going between ``one`` frame and the ``other``."""
        if self.base is None:
            raise UsageError(
                "E232", f"{other} to {one} needs the pose of the robot's base in the world: --base, or base="
            )
        return base_pose(self.base)

    def frame(self) -> str:
        return UNDECLARED if self.convention is None else self.convention.frame

    def _rows(self, need: str) -> tuple[Floats, Convention]:
        if self.values is None:
            raise UsageError("E232", f"this needs state=, the measured pose, which {need}")
        if self.convention is None:
            raise missing("state_convention (what the state means; --declare observation.state:KEY=VALUE says it)")
        if self.convention.kind != "absolute":
            raise missing("the state's kind (absolute)")
        rows = np.asarray(self.values, dtype=np.float64)
        if self.chunk is None:
            rows = rows[None]
        elif rows.ndim == 2:
            rows = rows[:, None]
        if rows.ndim != 3 or rows.shape[-1] != self.convention.width or rows.shape[-2] == 0:
            raise UsageError(
                "E232",
                f"the state has shape {np.shape(self.values)}; its convention is for "
                f"{self.convention.width} numbers a step",
            )
        if not np.isfinite(rows).all():
            raise DataError("E201", "the state is not finite")
        return rows, self.convention


@dataclass(frozen=True, slots=True)
class _Arm:
    """The translation and the rotation of one arm, which may need each other."""

    prefix: str
    source: Convention
    result: Convention
    known: _State
    rows: Floats
    chunks: bool
    saturate: bool

    def converted(self) -> dict[str, Floats]:
        """Part name -> values."""
        source, result = self.source, self.result
        names = {quantity(n): n for n in source.layout if arm(n) == self.prefix and quantity(n) != "gripper"}
        names = {kind: n for kind, n in names.items() if kind in ("translation", "rotation")}
        raw = {kind: self.rows[..., source.layout[n]] for kind, n in names.items()}
        changed = {kind: motion_of(source, kind) != motion_of(result, kind) for kind in raw}
        zero = None
        copied = not any(changed.values()) and same_angles(source, result) and holds(source) == holds(result)
        if "rotation" in raw and not copied and (holds(source) or holds(result)):
            zero = turns_nothing(raw["rotation"], source)
        # Of two controllers that read a 0 differently, only the poses say what the other one must be told.
        reread = zero is not None and zero.any() and holds(source) != holds(result) and source.kind != "absolute"
        if reread:
            changed["rotation"] = True
        out: dict[str, Floats] = {}
        pose = Pose()
        through_poses = any(changed.values()) and (reread or not only_frames(source, result))
        if through_poses:
            pose = self._through_poses(raw, zero)
        elif any(changed.values()):
            pose = self._moved_only(raw)
        if "translation" in raw:
            if changed["translation"] and pose.position is not None:
                part = units.translation_to(pose.position, result, saturate=self.saturate)
            else:
                part = _translation(raw["translation"], source, result, saturate=self.saturate)
            out[names["translation"]] = part
        if "rotation" in raw:
            if changed["rotation"] and pose.rotation is not None:
                part = self._angles(pose.rotation)
            else:
                part = _rotation(raw["rotation"], source, result, saturate=self.saturate)
            if zero is not None and not through_poses:
                part = self._same_holds(part, zero)
            out[names["rotation"]] = part
        return out

    def _angles(self, rotation: Floats) -> Floats:
        result = self.result
        difference = result.kind != "absolute" and result.rotation_delta == "angle_difference"
        values = rotation if difference else from_quaternion(rotation, result.rotation)
        return units.angles_to(values, result, saturate=self.saturate)

    def _same_holds(self, part: Floats, zero: NDArray[np.bool_]) -> Floats:
        """What held still holds after its numbers were computed anew, and nothing else does."""
        if not holds(self.result) or self.result.kind == "absolute":
            return part
        now = turns_nothing(part, self.result)
        refuse_zero(now & ~zero)
        none = np.zeros(part.shape[-1])
        if self.result.rotation != UNDECLARED and not is_angles(self.result.rotation):
            none = from_quaternion(IDENTITY, self.result.rotation)
        return np.where((zero & ~now)[..., None], none, part)

    def _decoded(self, raw: dict[str, Floats]) -> Pose:
        position = rotation = None
        if "translation" in raw:
            position = units.translation_from(raw["translation"], self.source)
        if "rotation" in raw:
            rotation = units.angles_from(raw["rotation"], self.source)
            if self.source.kind == "absolute" or self.source.rotation_delta != "angle_difference":
                rotation = to_quaternion(rotation, self.source.rotation)
        return Pose(position=position, rotation=rotation)

    def _moved_only(self, raw: dict[str, Floats]) -> Pose:
        base = self.known.base_pose(self.result.frame, self.source.frame)
        motion = self.source.kind != "absolute"
        return moved(self._decoded(raw), base, motion=motion, back=self.result.frame == "robot_base")

    def _through_poses(self, raw: dict[str, Floats], zero: NDArray[np.bool_] | None) -> Pose:
        source, result = self.source, self.result
        for name, convention in (("source", source), ("target", result)):
            if convention.kind == UNDECLARED:
                raise missing(f"the {name}'s kind (delta, absolute or velocity)")
            if convention.frame == UNDECLARED:
                raise missing(f"the {name}'s frame")
            axes = {convention.frame, convention.rotation_frame or convention.frame}
            if UNDECLARED in axes or len(axes & set(FIXED)) > 1:
                raise missing(f"one fixed frame of the {name}'s translations and rotations")
            if convention.kind == "absolute" and not axes <= set(FIXED):
                raise UsageError(
                    "E232",
                    f"the {name} declares poses in the end effector's own axes, where every pose is 0; "
                    "declare robot_base or world",
                )
        frame = fixed_frame(source) or fixed_frame(result) or self.known.frame()
        state = Pose()
        if "absolute" not in (source.kind, result.kind) or source.kind != result.kind:
            state = self.known.pose(self.prefix, frame, f"{source.kind} to {result.kind} counts from")
        pose = self._decoded(raw)
        if source.kind != "absolute":
            pose = poses_of(pose, Rule.of(source, rows_are_chunks=self.chunks), state, zero=zero)
        wanted = fixed_frame(result)
        if wanted is not None and wanted != frame:
            # Poses are moved and not motions: those along the end effector's own axes don't change, and
            # differences of angles have no other way.
            base = self.known.base_pose(wanted, frame)
            pose, state = (moved(p, base, motion=False, back=wanted == "robot_base") for p in (pose, state))
        if result.kind == "absolute":
            return pose
        return motions_of(pose, Rule.of(result, rows_are_chunks=self.chunks), state)


def _check(source: Convention, result: Convention) -> None:
    for name, positions in result.layout.items():
        if name not in source.layout:
            raise UsageError("E232", f"the target has a part {show(name)!r} that the source does not have")
        if quantity(name) != "rotation" and len(positions) != len(source.layout[name]):
            raise UsageError(
                "E232",
                f"{show(name)} has {len(source.layout[name])} numbers in the source and "
                f"{len(positions)} in the target",
            )
    for name in source.layout:
        if name not in result.layout:
            raise UsageError("E232", f"the target has no place for the source's {show(name)!r}")
    rates = {source.control_rate, result.control_rate} - {None}
    if len(rates) > 1:
        listed = " and ".join(f"{rate:g}" for rate in sorted(rates, key=float))  # type: ignore[arg-type]
        raise UsageError("E232", f"the control rates differ: {listed} steps a second; resample first (--resample)")


def _translation(values: Floats, source: Convention, result: Convention, *, saturate: bool) -> Floats:
    """Another unit, or velocities, of the same motion."""
    if numbers_of(source, source.translation_unit) == numbers_of(result, result.translation_unit):
        return values
    return units.translation_to(units.translation_from(values, source), result, saturate=saturate)


def _rotation(values: Floats, source: Convention, result: Convention, *, saturate: bool) -> Floats:
    """Another unit, representation, or velocities, of the same rotation."""
    if same_angles(source, result):
        return values
    angles = units.angles_from(values, source)
    if source.rotation != result.rotation:
        angles = from_quaternion(to_quaternion(angles, source.rotation), result.rotation)
    return units.angles_to(angles, result, saturate=saturate)


def _joints(
    values: Floats, name: str, source: Convention, result: Convention, known: _State, *, chunks: bool
) -> Floats:
    if motion_of(source, "joints") == motion_of(result, "joints"):
        if numbers_of(source, source.joint_unit) == numbers_of(result, result.joint_unit):
            return values
        return units.joints_to(units.joints_from(values, source), result)
    for which, convention in (("source", source), ("target", result)):
        if convention.kind == UNDECLARED:
            raise missing(f"the {which}'s kind (delta, absolute or velocity)")
    state = known.joints(name, f"{source.kind} to {result.kind} counts from")
    pose = Pose(position=units.joints_from(values, source))
    if source.kind != "absolute":
        pose = poses_of(pose, _plain(source, chunks=chunks), state)
    if result.kind != "absolute":
        pose = motions_of(pose, _plain(result, chunks=chunks), state)
    if pose.position is None:
        raise AssertionError("joints have positions")
    return units.joints_to(pose.position, result)


def _plain(convention: Convention, *, chunks: bool) -> Rule:
    """The rule for joints, which have no axes to turn."""
    rule = Rule.of(convention, rows_are_chunks=chunks)
    return Rule(
        reference=rule.reference,
        chunk=rule.chunk,
        translation_turns=False,
        rotation_turns=False,
        angles=None,
        holds=False,
    )
