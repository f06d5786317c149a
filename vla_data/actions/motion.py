"""From motions to poses and back: what a delta is added to, and about whose axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.convention import UNDECLARED, Convention, missing
from vla_data.actions.rotations import (
    Floats,
    angle_between,
    cumulative,
    from_quaternion,
    inverse,
    multiply,
    rotate,
    to_quaternion,
)
from vla_data.errors import DataError, UsageError

FIXED: Final = ("robot_base", "world")
IDENTITY: Final = np.array([0.0, 0.0, 0.0, 1.0])
"""The quaternion of no turn."""
_ROUNDING: Final = 1e-14
"""Radians. Two orientations that are nearer were computed from the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Where something is, at each step: ``N`` rows (episodes or chunks) of ``S`` steps.

    Attributes:
        position: ``(N, S, 3)`` metres, or joints ``(N, S, n)`` in radians; None where unknown.
        rotation: ``(N, S, 4)`` quaternions, or None.
    """

    position: Floats | None = None
    rotation: Floats | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the motions of a convention are counted.

    Attributes:
        reference: see `vla_data.actions.Convention`.
        chunk: steps of a chunk; None: a row is one chunk.
        translation_turns: translations are along the axes of the reference pose.
        rotation_turns: rotations are about the axes of the reference pose.
        angles: the Euler form whose differences the rotations are, or None where they are rotations.
        holds: a rotation of 0 keeps the orientation of the target before.
    """

    reference: str
    chunk: int | None
    translation_turns: bool
    rotation_turns: bool
    angles: str | None
    holds: bool

    @classmethod
    def of(cls, convention: Convention, *, rows_are_chunks: bool) -> Rule:
        """The rule of a convention of deltas or velocities.

        Raises:
            UsageError: E231 when a fact of it is undeclared.
        """
        if convention.reference == UNDECLARED:
            raise missing("reference (what a delta is added to)")
        chunk = None if rows_are_chunks else convention.chunk
        if convention.reference == "chunk_start" and not rows_are_chunks and chunk is None:
            raise missing("chunk (how many steps are added to one pose)")
        difference = convention.rotation_delta == "angle_difference"
        controller = convention.controller
        return cls(
            reference=convention.reference,
            chunk=chunk,
            translation_turns=convention.frame == "end_effector",
            rotation_turns=(convention.rotation_frame or convention.frame) == "end_effector",
            angles=convention.rotation if difference else None,
            holds=controller is not None and controller.zero_rotation == "holds",
        )


def poses_of(motion: Pose, rule: Rule, state: Pose, *, zero: NDArray[np.bool_] | None = None) -> Pose:
    """The targets that motions lead to.

    Args:
        motion: metres and rotations of each step; for `Rule.angles` the rotation holds ``(N, T, 3)`` differences.
        rule: how they are counted.
        state: measured before each action (one step is enough for ``previous_target``).
        zero: ``(N, T)`` true where the rotation's input was exactly 0.
    """
    rotation = None
    if motion.rotation is not None:
        start = _at(state.rotation, rule, motion.rotation.shape[-2], "rotation")
        rotation = _turned(motion.rotation, rule, start)
        if rule.holds and zero is not None:
            rotation = _held(rotation, zero, start)
    if motion.position is None:
        return Pose(rotation=rotation)
    steps = motion.position.shape[-2]
    start = _at(state.position, rule, steps, "position")
    move = motion.position
    if rule.translation_turns:
        move = rotate(_before(rotation, rule, state, steps), move)
    if rule.reference == "previous_target":
        position = start[..., :1, :] + np.cumsum(move, axis=-2)
    else:
        position = start + move
    return Pose(position=position, rotation=rotation)


def motions_of(target: Pose, rule: Rule, state: Pose) -> Pose:
    """The motions that lead to targets: the way back from `poses_of`.

    Raises:
        DataError: E202 for a turn of 0 where `Rule.holds` makes it another one.
    """
    rotation = None
    if target.rotation is not None:
        steps = target.rotation.shape[-2]
        before = _before(target.rotation, rule, state, steps)
        if rule.angles is not None:
            difference = from_quaternion(target.rotation, rule.angles) - from_quaternion(before, rule.angles)
            rotation = _wrapped(difference)
        elif rule.rotation_turns:
            rotation = multiply(inverse(before), target.rotation)
        else:
            rotation = multiply(target.rotation, inverse(before))
        if rule.holds:
            rotation = _holding(rotation, target.rotation, before, state.rotation)
    if target.position is None:
        return Pose(rotation=rotation)
    steps = target.position.shape[-2]
    start = _at(state.position, rule, steps, "position")
    if rule.reference == "previous_target":
        start = np.concatenate((start[..., :1, :], target.position[..., :-1, :]), axis=-2)
    move = target.position - start
    if rule.translation_turns:
        move = rotate(inverse(_before(target.rotation, rule, state, steps)), move)
    return Pose(position=move, rotation=rotation)


def refuse_zero(wrong: NDArray[np.bool_]) -> None:
    """Refuse turns of 0 for a controller that would not do them.

    Args:
        wrong: ``(rows, steps)``, true where that is so.

    Raises:
        DataError: E202, with the first.
    """
    if wrong.any():
        text = "a turn of 0, by which the target's controller keeps the goal before it, which is another"
        raise DataError("E202", f"step {int(np.argwhere(wrong)[0][-1])}: {text}")


def moved(pose: Pose, base: Floats, *, motion: bool, back: bool) -> Pose:
    """The same in the axes of the world (``back``: of the robot's base).

    Args:
        pose: poses, or motions about fixed axes.
        base: ``(4, 4)`` pose of the robot's base in the world.
        motion: whether they are motions, which do not care where the base is.
        back: from the world to the base.
    """
    turn = to_quaternion(base[:3, :3].reshape(9), "matrix")
    shift = np.zeros(3) if motion else base[:3, 3]
    position, rotation = pose.position, pose.rotation
    if position is not None:
        position = rotate(inverse(turn), position - shift) if back else rotate(turn, position) + shift
    if rotation is not None:
        left = inverse(turn) if back else turn
        rotation = multiply(left, rotation)
        if motion:
            rotation = multiply(rotation, inverse(left))
    return Pose(position=position, rotation=rotation)


def _at(state: Floats | None, rule: Rule, steps: int, what: str) -> Floats:
    """``(N, steps, ...)``: the measured pose that each motion counts from."""
    if state is None:
        raise UsageError("E232", f"this needs state=, the measured {what} that motions count from")
    if rule.reference == "previous_target" or (rule.reference == "chunk_start" and rule.chunk is None):
        return np.repeat(state[..., :1, :], steps, axis=-2)
    if state.shape[-2] < steps:
        raise UsageError(
            "E232",
            f"this needs a state before each action; there are {state.shape[-2]} states for {steps} actions",
        )
    at = np.arange(steps)
    return state[..., at if rule.reference == "current_state" else at // (rule.chunk or 1) * (rule.chunk or 1), :]


def _before(target: Floats | None, rule: Rule, state: Pose, steps: int) -> Floats:
    """The orientation that each motion counts from."""
    start = _at(state.rotation, rule, steps, "rotation")
    if rule.reference != "previous_target":
        return start
    if target is None:
        raise UsageError("E232", "translations along the end effector's axes need its rotations too")
    return np.concatenate((start[..., :1, :], target[..., :-1, :]), axis=-2)


def _turned(motion: Floats, rule: Rule, start: Floats) -> Floats:
    if rule.angles is not None:
        angles = from_quaternion(start, rule.angles)
        if rule.reference == "previous_target":
            return to_quaternion(angles[..., :1, :] + np.cumsum(motion, axis=-2), rule.angles)
        return to_quaternion(angles + motion, rule.angles)
    if rule.reference == "previous_target":
        return cumulative(motion, start[..., 0, :], frame_turns=rule.rotation_turns)
    return multiply(start, motion) if rule.rotation_turns else multiply(motion, start)


def _held(rotation: Floats, zero: NDArray[np.bool_], start: Floats) -> Floats:
    """Where the input was 0, the goal before; before the first goal, the pose before the first action."""
    steps = np.arange(rotation.shape[-2])
    last = np.maximum.accumulate(np.where(zero, -1, steps), axis=-1)
    goal = np.take_along_axis(rotation, np.maximum(last, 0)[..., None], axis=-2)
    return np.where((last < 0)[..., None], start[..., :1, :], goal)


def _holding(rotation: Floats, target: Floats, before: Floats, state: Floats | None) -> Floats:
    """Turns for a controller that keeps its goal at an input of 0: 0 where that is what it shall do.

    Where the goal is the pose that turns count from, the input is 0 as well. That is another command, unless it
    has the same effect; a small number in its place would be made up.
    """
    if state is None:
        raise UsageError("E232", "this needs state=, the measured rotation that motions count from")
    goal = np.concatenate((state[..., :1, :], target[..., :-1, :]), axis=-2)
    nothing = angle_between(target, before) < _ROUNDING
    refuse_zero(nothing & (angle_between(target, goal) >= _ROUNDING))
    stays = nothing | (target == goal).all(axis=-1)
    # Differences of angles are three numbers, rotations four.
    none = IDENTITY if rotation.shape[-1] == 4 else np.zeros(3)
    return np.where(stays[..., None], none, rotation)


def _wrapped(angles: Floats) -> Floats:
    """Within [-pi, pi]; what is in there already stays as it is."""
    return np.where(np.abs(angles) > np.pi, np.mod(angles + np.pi, 2 * np.pi) - np.pi, angles)
