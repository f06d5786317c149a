"""Robots that take their time are right; what is wrong of them is found all the same, and frames by the motion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from tests.dynamics.test_turned import POSE
from vla_data.actions import Convention, preset
from vla_data.dynamics import DynamicsReport, check_dynamics
from vla_data.errors import UsageError
from vla_data.report.troubles import _motion

Floats = NDArray[np.float64]
FPS = 30


def late(latency: int, steps: int = 300, seed: int = 0) -> tuple[Floats, Floats]:
    """Goals ``(T, 7)`` and poses ``(T, 7)`` of an arm that goes half of the way to the goal ``latency`` before."""
    rng = np.random.default_rng(seed)
    speed = np.zeros(6)
    goals = np.zeros((steps, 6))
    for t in range(1, steps):
        speed = 0.95 * speed + rng.normal(size=6) * np.r_[[1e-3] * 3, [2.5e-3] * 3]
        goals[t] = goals[t - 1] + speed
    turns = Rotation.from_rotvec(goals[:, 3:]) * Rotation.from_rotvec([3.0, 0.2, 0])
    place, now, poses = goals[0, :3], turns[0], []
    for t in range(steps):
        poses.append(np.r_[place, now.as_quat()])
        at = max(t - latency, 0)
        place = place + 0.5 * (goals[at, :3] - place) + rng.normal(size=3) * 2e-4
        now = Rotation.from_rotvec(0.5 * (turns[at] * now.inv()).as_rotvec()) * now
    return np.c_[goals[:, :3], turns.as_quat()], np.asarray(poses)


def check(goals: Floats, poses: Floats) -> DynamicsReport:
    return check_dynamics([goals], [poses], replace(POSE, control_rate=FPS), FPS, state_convention=POSE)


def turned(goals: Floats, degrees: float) -> Floats:
    turns = Rotation.from_quat(goals[:, 3:]) * Rotation.from_euler("z", degrees, degrees=True)
    out: Floats = np.c_[goals[:, :3], turns.as_quat()]
    return out


@pytest.mark.parametrize(
    ("latency", "told", "is_least"),
    [*((n, n, False) for n in (0, 1, 2, 3, 4, 7, 12, 20, 29)), (30, 30, True), (31, 30, True)],
)
def test_the_lag_is_that_of_the_robot_or_said_to_be_more(latency: int, told: int, is_least: bool) -> None:
    report = check(*late(latency))
    assert (report.lag, report.lag_at_least) == (told, is_least)
    assert report.lag_seconds == pytest.approx(told / FPS)
    words = [finding.message for finding in report.findings if finding.code == "late"]
    assert len(words) == (latency > 0)
    assert all(f"{'at least ' if is_least else ''}{told:+d} steps" in line for line in words)
    assert f"lag {'at least ' if is_least else ''}{told:+d}" in str(report)


def test_short_episodes_say_no_more_than_they_tell() -> None:
    whole = [late(6, steps=60, seed=seed) for seed in range(2)]
    cut = [
        (goals[start : start + 14], poses[start : start + 14])
        for goals, poses in whole
        for start in (0, 14, 28, 42)
    ]
    report = check_dynamics(*zip(*cut, strict=True), replace(POSE, control_rate=FPS), FPS, state_convention=POSE)
    assert report.lag in (-2, -1, 0, 1, 2)
    assert report.lag_at_least == (abs(report.lag) == 2)


@pytest.mark.parametrize("latency", [0, 1, 2, 3])
def test_a_robot_that_takes_its_time_contradicts_nothing(latency: int) -> None:
    report = check(*late(latency))
    assert report.ok
    assert not report.contradicted
    assert [finding.code for finding in report.findings] == ["late"] * (latency > 0)


@pytest.mark.parametrize("latency", [0, 1, 2])
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda goals: goals + np.eye(7)[2] * 0.05, "wrong_offset"),
        (lambda goals: turned(goals, 90), "wrong_offset"),
        (lambda goals: turned(goals, 45), "wrong_offset"),
        (lambda goals: np.c_[goals[:, [1, 0, 2]], goals[:, 3:]], "wrong_axes"),
        (lambda goals: np.c_[100 * goals[:, :3], goals[:, 3:]], "wrong_scale"),
    ],
)
def test_what_is_wrong_is_found_however_late_the_motion_comes(latency: int, wrong: Any, code: str) -> None:
    goals, poses = late(latency)
    report = check(wrong(goals), poses)
    assert report.contradicted
    assert code in [finding.code for finding in report.findings]


def test_states_before_their_commands_are_still_wrong() -> None:
    goals, poses = late(0)
    report = check(goals[:-1], poses[1:])
    assert report.lag == -1
    assert report.contradicted


def commanded(steps: int, frame: str) -> tuple[Floats, Floats]:
    """Deltas along the axes of ``frame``, and the poses of an arm that goes a quarter of each."""
    rng = np.random.default_rng(1)
    actions, states, now, place = [], [], Rotation.from_rotvec([3.0, 0.2, 0]), np.zeros(3)
    speed = np.zeros(6)
    for _ in range(steps):
        speed = 0.9 * speed + rng.normal(scale=0.12, size=6)
        states.append(np.r_[place, now.as_quat()])
        step, turn = 0.01 * speed[:3], 0.05 * speed[3:]
        if frame == "end_effector":
            actions.append(np.r_[now.inv().apply(step), now.inv().apply(turn)])
        else:
            actions.append(np.r_[step, turn])
        place = place + 0.25 * step + rng.normal(scale=1e-5, size=3)
        now = Rotation.from_rotvec(0.25 * turn + rng.normal(scale=1e-4, size=3)) * now
    return np.asarray(actions), np.asarray(states)


MOVES = Convention(
    layout={"translation": (0, 1, 2), "rotation": (3, 4, 5)},
    kind="delta",
    reference="current_state",
    frame="world",
    translation_unit="m",
    rotation="rotvec",
    rotation_unit="rad",
)


@pytest.mark.parametrize("steps", [40, 200])
@pytest.mark.parametrize("declared", ["world", "end_effector"])
@pytest.mark.parametrize("true", ["world", "end_effector"])
def test_axes_of_the_hand_for_those_of_the_world(true: str, declared: str, steps: int) -> None:
    actions, states = commanded(steps, true)
    found = check_dynamics([actions], [states], replace(MOVES, frame=declared), 20, state_convention=POSE).findings
    if true == declared:
        assert found == ()
    else:
        assert found
        assert steps < 64 or any(f"in the frame {true} better" in finding.message for finding in found)


def test_everything_that_is_undeclared_is_named_at_once() -> None:
    actions, states = commanded(80, "world")
    with pytest.raises(UsageError) as refused:
        check_dynamics(
            [actions],
            [states],
            Convention(layout=MOVES.layout),
            20,
            state_convention=Convention(layout=POSE.layout),
        )
    assert refused.value.code == "E231"
    assert "the actions' kind, rotation_unit, translation_unit, the states' kind, rotation," in str(refused.value)
    with pytest.raises(UsageError, match="the states' kind, layout and the units of its parts"):
        check_dynamics([actions], [states], MOVES, 20, state_convention=Convention(kind="undeclared"))


def test_a_known_controller_is_never_late() -> None:
    actions, states = commanded(120, "world")
    fast = preset("robosuite_1.4_osc_pose")
    moved = np.c_[actions[:, :3] / 0.05, actions[:, 3:] / 0.5, np.ones(120)]
    report = check_dynamics([moved[1:]], [states[:-1]], fast, 20, state_convention=POSE)
    assert report.lag == 1
    assert report.findings[0].code == "off_by_one"


def test_a_page_on_a_dataset_calls_latency_a_note_and_mistakes_errors() -> None:
    goals, poses = late(1)
    (note,) = _motion("set", check(goals, poses))
    assert (note.code, note.level, note.fix) == ("late", "note", "")
    levels = {f.code: f.level for f in _motion("set", check(turned(goals, 90), poses))}
    assert levels == {"late": "note", "wrong_offset": "error"}
