"""Frames that are turned by any angle, and commanded poses that are not the measured ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.actions_data import recordings
from vla_data.actions import Convention
from vla_data.dynamics import check_dynamics

Floats = NDArray[np.float64]
RECORDINGS = recordings()
POSE = Convention(
    layout={"translation": (0, 1, 2), "rotation": (3, 4, 5, 6)},
    kind="absolute",
    frame="world",
    translation_unit="m",
    rotation="quaternion_xyzw",
)


def codes(actions: Any, states: Any, convention: Convention, state: Convention = POSE) -> list[str]:
    return [f.code for f in check_dynamics(actions, states, convention, 20, state_convention=state).findings]


def followed(steps: int = 240, seed: int = 0, *, gain: float = 0.6) -> tuple[Floats, Floats]:
    """Commanded poses ``(T, 7)``, and those ``(T + 1, 7)`` of an arm that goes ``gain`` of the way to each."""
    rng = np.random.default_rng(seed)
    smooth = np.cumsum(rng.normal(size=(steps, 6)), axis=0) * 0.004
    goals = np.c_[
        smooth[:, :3], (Rotation.from_rotvec([3.0, 0.2, 0]) * Rotation.from_rotvec(smooth[:, 3:])).as_quat()
    ]
    states = [np.r_[0, 0, 0, Rotation.from_rotvec([3.0, 0.2, 0]).as_quat()]]
    for goal in goals:
        now, wanted = Rotation.from_quat(states[-1][3:]), Rotation.from_quat(goal[3:])
        turn = Rotation.from_rotvec(gain * (wanted * now.inv()).as_rotvec() + rng.normal(size=3) * 1e-4)
        place = states[-1][:3] + gain * (goal[:3] - states[-1][:3]) + rng.normal(size=3) * 1e-5
        states.append(np.r_[place, (turn * now).as_quat()])
    return goals, np.asarray(states)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("gain", [0.2, 0.6, 1.0])
def test_an_arm_that_lags_behind_has_no_offset(seed: int, gain: float) -> None:
    goals, states = followed(seed=seed, gain=gain)
    assert "wrong_offset" not in codes([goals], [states], POSE)


@pytest.mark.parametrize("side", ["base", "tool"])
@pytest.mark.parametrize("degrees", [15, 45, 90, 135])
@pytest.mark.parametrize("axis", "xyz")
def test_a_constant_turn_between_command_and_pose(side: str, degrees: float, axis: str) -> None:
    goals, states = followed()
    turn, was = Rotation.from_euler(axis, degrees, degrees=True), Rotation.from_quat(goals[:, 3:])
    goals[:, 3:] = (turn * was if side == "base" else was * turn).as_quat()
    report = check_dynamics([goals], [states], POSE, 20, state_convention=POSE)
    found = {finding.code: finding.message for finding in report.findings}
    if side == "base":  # the axes of all rotations are turned as well, which is told before
        assert f"turned by {degrees} degrees" in found["wrong_axes"]
    else:
        assert f"{np.deg2rad(degrees):.3g} rad" in found["wrong_offset"]


@pytest.mark.parametrize("side", ["base", "tool"])
def test_a_constant_shift_between_command_and_pose(side: str) -> None:
    goals, states = followed()
    shift = np.asarray([0.0, 0.02, 0.1])
    goals[:, :3] += shift if side == "base" else Rotation.from_quat(goals[:, 3:]).apply(shift)
    assert codes([goals], [states], POSE) == ["wrong_offset"]


def test_another_zero_of_a_joint() -> None:
    joints = Convention(layout={"joints": (0, 1)}, kind="absolute", joint_unit="rad")
    rng = np.random.default_rng(0)
    goals = np.cumsum(rng.normal(size=(200, 2)), axis=0) * 0.02
    states = np.vstack((np.zeros((1, 2)), goals)) + rng.normal(size=(201, 2)) * 1e-4
    assert codes([goals], [states], joints, joints) == []
    assert codes([goals + np.asarray([0, 0.5])], [states], joints, joints) == ["wrong_offset"]


def turned(states: Floats, convention: Convention, turn: Rotation) -> Floats:
    """The same states seen from a frame that is turned."""
    out = np.array(states, dtype=np.float64)
    at, of = list(convention.layout["translation"]), list(convention.layout["rotation"])
    out[:, at] = turn.apply(out[:, at])
    q = np.roll(out[:, of], -1, axis=1) if convention.rotation == "quaternion_wxyz" else out[:, of]
    if convention.rotation == "rotvec":
        out[:, of] = (turn * Rotation.from_rotvec(q)).as_rotvec()
    else:
        q = (turn * Rotation.from_quat(q)).as_quat()
        out[:, of] = np.roll(q, 1, axis=1) if convention.rotation == "quaternion_wxyz" else q
    return out


@pytest.mark.parametrize("name", ["libero", "rl4vla"])
@pytest.mark.parametrize("degrees", [30, 45, 60])
@pytest.mark.parametrize("axis", "xyz")
def test_a_base_that_is_turned_by_any_angle(name: str, degrees: float, axis: str) -> None:
    recording = RECORDINGS[name]
    turn = Rotation.from_euler(axis, degrees, degrees=True)
    states = [turned(state, recording.state_convention, turn) for state in recording.states]
    found = codes(recording.actions, states, recording.convention, recording.state_convention)
    assert "wrong_axes" in found


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name != "aloha"])
def test_a_base_that_is_turned_hardly_or_not_at_all_is_right(name: str) -> None:
    recording = RECORDINGS[name]
    for degrees in (0, 2):
        turn = Rotation.from_euler("z", degrees, degrees=True)
        states = [turned(state, recording.state_convention, turn) for state in recording.states]
        convention = replace(recording.convention, control_rate=20.0)
        assert codes(recording.actions, states, convention, recording.state_convention) == []
