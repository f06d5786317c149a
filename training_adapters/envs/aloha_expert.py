"""A scripted expert that transfers gym-aloha's cube: the right arm lifts it, and the left one takes hold of it.

It knows where the cube is, which the arms' own state does not say. Where hands are to be is turned into joints by
damped least squares on the simulator's own model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import gymnasium
import numpy as np
from numpy.typing import NDArray

from vla_data.errors import UsageError

Array = NDArray[np.float64]

_TIP: Final = np.array([0.125, 0.0, 0.0])  # between the finger tips, from the link of the gripper, in metres
_MEET: Final = np.array([0.0, 0.5, 0.27])  # where the cube changes hands
_WAIT: Final = np.array([-0.12, 0.5, 0.27])  # where the left hand waits for it
_ABOVE: Final = 0.08  # metres over the cube, while the hand goes sideways
_GRIP: Final = np.array([0.0, 0.0, 0.015])  # above the cube's centre, so that fingers do not rub on the table
_DOWN, _LEVEL = np.deg2rad(60), np.deg2rad(10)  # how far the right hand points down, at the table and in the air
_NEAR: Final = 0.012  # metres
_STEP: Final = 0.06  # radians that a joint moves in a step, at most
_DAMPING, _ROUNDS = 1e-3, 4
_OPEN, _CLOSED = 1.0, 0.0
_HELD: Final = 0.104  # metres between the finger joints, when the cube is between the fingers


@dataclass(frozen=True, slots=True)
class _Arm:
    name: str
    first: int  # of its six joints in qpos, of which two fingers come next
    action: int  # where its seven numbers are in an action


_LEFT, _RIGHT = _Arm("vx300s_left", 0, 0), _Arm("vx300s_right", 8, 7)


def expert(env: gymnasium.Env[Any, Any]) -> NDArray[np.float32]:
    """The next action, ``(14,)``: joints in radians and how far grippers are open.

    Raises:
        UsageError: E231, it is another environment of gym-aloha.
    """
    if env.unwrapped.task != "transfer_cube":
        raise UsageError(
            "E231", "gym_aloha has a scripted expert for AlohaTransferCube-v0 alone: give a checkpoint"
        )
    import mujoco

    physics = env.unwrapped._env.physics
    model, data = physics.model.ptr, physics.data.ptr
    cube = data.body("box").xpos.copy()
    action = np.zeros(14)
    for arm, (place, axes, opened) in zip((_RIGHT, _LEFT), (_right(data, cube), _left(data, cube)), strict=True):
        scratch = mujoco.MjData(model)
        scratch.qpos[:] = data.qpos
        wanted = _joints(mujoco, model, scratch, arm, place, axes)
        now = data.qpos[arm.first : arm.first + 6]
        action[arm.action : arm.action + 6] = now + np.clip(wanted - now, -_STEP, _STEP)
        action[arm.action + 6] = opened
    return action.astype(np.float32)


def _right(data: Any, cube: Array) -> tuple[Array, Array, float]:
    """Where the right hand goes: its place, its axes as columns, and how far it is open."""
    tip, down = (
        _tip(data, _RIGHT),
        _axes(np.array([-np.cos(_DOWN), 0, -np.sin(_DOWN)]), np.array([0.0, -1.0, 0.0])),
    )
    if np.linalg.norm(tip - cube - _GRIP) < 1.5 * _NEAR or cube[2] > 0.03:
        if data.qpos[_RIGHT.first + 6] - data.qpos[_RIGHT.first + 7] > _HELD:  # fingers are not yet on the cube
            return cube + _GRIP, down, _CLOSED
        level = _axes(np.array([-np.cos(_LEVEL), 0, -np.sin(_LEVEL)]), np.array([0.0, -1.0, 0.0]))
        return _MEET + tip - cube, level if cube[2] > 0.1 else down, _CLOSED
    aside = np.linalg.norm(tip[:2] - cube[:2])
    return cube + _GRIP + (0, 0, np.clip(4 * (aside - _NEAR), 0, _ABOVE)), down, _OPEN


def _left(data: Any, cube: Array) -> tuple[Array, Array, float]:
    """The same of the left hand, whose fingers are above and below the cube."""
    axes = _axes(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    if np.linalg.norm(cube - _MEET) > 3 * _NEAR:
        return _WAIT, axes, _OPEN
    near = np.linalg.norm(_tip(data, _LEFT) - cube) < 1.5 * _NEAR
    return cube, axes, _CLOSED if near else _OPEN


def _axes(forward: Array, across: Array) -> Array:
    """A hand's axes: forward, across from finger to finger, and what is at right angles to both."""
    return np.stack([forward, across, np.cross(forward, across)], axis=1)


def _tip(data: Any, arm: _Arm) -> Array:
    body = data.body(f"{arm.name}/gripper_link")
    tip: Array = body.xpos + body.xmat.reshape(3, 3) @ _TIP
    return tip


def _joints(mujoco: Any, model: Any, data: Any, arm: _Arm, place: Array, axes: Array) -> Array:
    """The six joints that bring an arm's finger tips to a place and its hand to axes, as near as they come."""
    body, joints = model.body(f"{arm.name}/gripper_link").id, slice(arm.first, arm.first + 6)
    limits = model.jnt_range[joints]
    along, turn = np.zeros((3, model.nv)), np.zeros((3, model.nv))
    for _ in range(_ROUNDS):
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        tip, now = _tip(data, arm), data.body(body).xmat.reshape(3, 3)
        mujoco.mj_jac(model, data, along, turn, tip, body)
        # Half the sum of the crossed axes is the rotation vector of a small turn.
        away = np.concatenate([place - tip, 0.25 * np.cross(now.T, axes.T).sum(axis=0)])
        jacobian = np.concatenate([along[:, joints], 0.5 * turn[:, joints]])
        change = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + _DAMPING * np.eye(6), away)
        data.qpos[joints] = np.clip(data.qpos[joints] + change, limits[:, 0], limits[:, 1])
    out: Array = data.qpos[joints].copy()
    return out
