"""The check of the dynamics on real episodes: silent where the convention is right, by name where it is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.actions_data import LIBERO, RL4VLA, get, pose, recordings
from vla_data.actions import Controller, Convention, convert, preset, resolve
from vla_data.actions.rotations import convert_rotation
from vla_data.dynamics import DynamicsReport, check_dynamics
from vla_data.dynamics.fit import vuong
from vla_data.errors import UsageError

RECORDINGS = recordings()


def check(name: str, **changes: Any) -> DynamicsReport:
    recording = RECORDINGS[name]
    return check_dynamics(
        changes.pop("actions", recording.actions),
        changes.pop("states", recording.states),
        changes.pop("convention", recording.convention),
        changes.pop("fps", recording.fps),
        state_convention=recording.state_convention,
    )


def codes(report: DynamicsReport) -> list[str]:
    return [finding.code for finding in report.findings]


def gains(report: DynamicsReport, kind: str) -> list[float]:
    return [d.gain for d in report.dimensions if d.excited and kind in d.name]


def scaled(convention: Convention, translation: float, rotation: float = 1.0) -> Convention:
    """The convention with a controller of another scale."""
    controller = convention.controller
    assert isinstance(controller, Controller)
    return replace(
        convention,
        controller=replace(
            controller,
            translation_scale=controller.translation_scale * translation,
            rotation_scale=controller.rotation_scale * rotation,
        ),
    )


@pytest.mark.parametrize("name", RECORDINGS)
def test_right_conventions_find_nothing(name: str) -> None:
    report = check(name)
    assert codes(report) == []
    assert report.ok
    assert report.lag == 0


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("robosuite 1.4", 0.25, 0.36),
        ("robosuite 1.5", 0.25, 0.30),
        ("libero", 0.19, 0.23),
        ("maniskill", 0.39, 0.40),
        ("rl4vla", 0.98, 1.01),
        ("aloha", 0.86, 1.04),
    ],
)
def test_gains_of_real_controllers(name: str, low: float, high: float) -> None:
    """An OSC carries out a quarter of a step, RL4VLA's targets are reached; the unit is right in both."""
    measured = gains(check(name), "translation" if name != "aloha" else "joints")
    assert measured
    assert all(low <= gain <= high for gain in measured), measured


@pytest.mark.parametrize("name", ["robosuite 1.4", "robosuite 1.5", "libero", "maniskill", "rl4vla"])
@pytest.mark.parametrize("shift", [-1, 1])
def test_off_by_one(name: str, shift: int) -> None:
    recording = RECORDINGS[name]
    if shift < 0:  # states after the action under the name of states before it
        states, actions = [s[1:] for s in recording.states], recording.actions
        actions = [a[: len(s)] for a, s in zip(actions, states, strict=True)]
    else:
        states = [s[:-1] for s in recording.states]
        actions = [a[1:] for a in recording.actions]
        states = [s[: len(a) + 1] for a, s in zip(actions, states, strict=True)]
    report = check(name, states=states, actions=actions)
    assert report.lag == shift
    # Of a controller that is not known, a motion that comes late may be what the robot takes for it.
    known = shift < 0 or name != "rl4vla"
    assert codes(report)[0] == ("off_by_one" if known else "late")
    assert report.contradicted == known


@pytest.mark.parametrize("episode", LIBERO)
def test_liberos_files_pair_a_state_with_the_action_before(episode: str) -> None:
    """As they lie on disk: one demo is enough to see it (LIBERO issue 54)."""
    action, state = get(f"{episode}/action"), get(f"{episode}/state")
    convention = pose("rotvec", "world", gripper=True)
    report = check_dynamics(action, state, preset("libero"), 20, state_convention=convention)
    assert report.lag == -1
    assert codes(report) == ["off_by_one"]
    assert "states are recorded after their actions" in report.findings[0].message
    assert check_dynamics(action[1:], state, preset("libero"), 20, state_convention=convention).lag == 0


@pytest.mark.parametrize("name", ["robosuite 1.4", "robosuite 1.5", "libero", "maniskill"])
@pytest.mark.parametrize("factor", [0.24, 24.0, 1 / 0.05])
def test_wrong_scale(name: str, factor: float) -> None:
    """RDT forks' 0.012 m and 1.2 (cm) in place of 0.05 m, and controller input taken for metres."""
    report = check(name, convention=scaled(RECORDINGS[name].convention, factor))
    assert codes(report) == ["wrong_scale"]
    assert report.findings[0].message.startswith("translation moves")


def test_wrong_scale_of_rotations_and_of_summed_deltas() -> None:
    degrees = replace(RECORDINGS["rl4vla"].convention, rotation_unit="deg")
    assert "wrong_scale" in codes(check("rl4vla", convention=degrees))
    centimetres = replace(RECORDINGS["rl4vla"].convention, translation_unit="cm")
    assert codes(check("rl4vla", convention=centimetres)) == ["wrong_scale"]
    joints = replace(RECORDINGS["aloha"].convention, joint_unit="deg")
    assert codes(check("aloha", convention=joints)) == ["wrong_scale", "wrong_scale"]


def test_wrong_sign_of_maniskills_rotation() -> None:
    """Without the inverted sign of 3.0.1."""
    report = check("maniskill", convention=scaled(RECORDINGS["maniskill"].convention, 1, -1))
    assert codes(report) == ["wrong_sign"]
    assert report.findings[0].message.count("rotation_") == 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_wrong_sign_of_one_axis(axis: int) -> None:
    actions = [action * np.where(np.arange(7) == axis, -1, 1) for action in RECORDINGS["robosuite 1.5"].actions]
    report = check("robosuite 1.5", actions=actions)
    assert codes(report) == ["wrong_sign"]
    assert f"translation_{'xyz'[axis]}" in report.findings[0].message


@pytest.mark.parametrize(
    ("name", "wrong", "at_least"),
    [
        ("rl4vla", "euler_extrinsic_xyz", 3.5),  # what RL4VLA's motion planner writes
        ("robosuite 1.5", "euler_intrinsic_xyz", 6),
        ("robosuite 1.5", "euler_extrinsic_zyx", 20),
        ("libero", "euler_extrinsic_zyx", 14),
        ("maniskill", "euler_extrinsic_zyx", 15),
    ],
)
def test_wrong_rotation_dialect(name: str, wrong: str, at_least: float) -> None:
    convention = RECORDINGS[name].convention
    report = check(name, convention=replace(convention, rotation=wrong))
    assert "wrong_rotation" in codes(report)
    assert report.rotations[convention.rotation] < -3
    assert check(name).rotations[wrong] > at_least


@pytest.mark.parametrize("name", RECORDINGS)
def test_no_form_is_ever_surely_better_than_the_right_one(name: str) -> None:
    assert min(check(name).rotations.values(), default=0.0) > -3


@pytest.mark.parametrize("wrong", ["rl4vla_motion_planner", "rl4vla_octo"])
def test_dialects_are_plain_where_the_controllers_targets_are_recorded(wrong: str) -> None:
    states = [np.concatenate([get(f"{n}/target_before"), get(f"{n}/target_after")[-1:]]) for n in RL4VLA]
    right = check("rl4vla", states=states)
    assert right.rotation_confirmed
    assert max(d.residual for d in right.dimensions) < 1e-3
    assert codes(check("rl4vla", states=states, convention=preset(wrong))) == ["wrong_rotation"]


def test_undeclared_rotation_is_named_where_the_motion_tells() -> None:
    states = [np.concatenate([get(f"{n}/target_before"), get(f"{n}/target_after")[-1:]]) for n in RL4VLA]
    report = check("rl4vla", states=states, convention=replace(preset("rl4vla_ppo"), rotation="undeclared"))
    assert min(report.rotations, key=lambda form: report.rotations[form]) == "euler_intrinsic_xyz"
    assert report.rotation_confirmed


@pytest.mark.parametrize("name", ["robosuite 1.4", "robosuite 1.5", "libero"])
def test_inverted_gripper(name: str) -> None:
    convention = replace(RECORDINGS[name].convention, gripper_open=1.0, gripper_closed=-1.0)
    assert codes(check(name, convention=convention)) == ["wrong_gripper"]


def test_wrong_rate() -> None:
    """openpi's copy of LIBERO says 10 steps a second; they are 20."""
    assert codes(check("libero", fps=10)) == ["wrong_rate"]


def test_resting_arm_is_not_tested() -> None:
    still = np.zeros((40, 7))
    report = check_dynamics(
        still, np.repeat([[0, 0, 0, 1.0, 0, 0, 0]], 41, axis=0), preset("rl4vla_ppo"), 5,
        state_convention=pose("quaternion_wxyz", "robot_base"),
    )  # fmt: skip
    assert codes(report) == ["not_tested"]
    assert not report.ok


def test_short_episode_is_not_tested() -> None:
    recording = RECORDINGS["rl4vla"]
    report = check("rl4vla", actions=recording.actions[0][:10], states=recording.states[0][:11])
    assert codes(report) == ["not_tested"]


def test_arm_that_can_not_follow_is_not_tested() -> None:
    """Random targets far beyond reach: nothing can be said, and nothing is."""
    name = "maniskill_target_delta_oracle"
    report = check_dynamics(
        get(f"{name}/action"),
        get(f"{name}/ee_before"),
        preset("maniskill_pd_ee_target_delta_pose"),
        20,
        state_convention=pose("quaternion_wxyz", "robot_base"),
    )
    assert codes(report) == ["not_tested"]


def swapped(order: tuple[int, int, int]) -> list[Any]:
    return [*order, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["robosuite 1.4", "robosuite 1.5", "libero", "maniskill", "rl4vla"])
@pytest.mark.parametrize(("order", "listed"), [((1, 0, 2), "y x z"), ((0, 2, 1), "x z y"), ((1, 2, 0), "z x y")])
def test_swapped_axes(name: str, order: tuple[int, int, int], listed: str) -> None:
    report = check(name, actions=[action[:, swapped(order)] for action in RECORDINGS[name].actions])
    (found,) = (finding for finding in report.findings if finding.code == "wrong_axes")
    assert found.message.startswith(f"translation x y z follows the commands {listed} better, by ")


def parts(name: str, count: int = 40) -> Iterator[tuple[list[Any], list[Any]]]:
    """Parts of a simulator's episodes, long and short, one or several."""
    recording = RECORDINGS[name]
    rng = np.random.default_rng(1)
    for _ in range(count):
        actions, states = [], []
        for k in rng.permutation(len(recording.actions))[: rng.integers(1, len(recording.actions) + 1)]:
            length = int(rng.integers(16, min(len(recording.actions[k]), 100) + 1))
            at = int(rng.integers(0, len(recording.actions[k]) - length + 1))
            actions.append(recording.actions[k][at : at + length])
            states.append(recording.states[k][at : at + length])
        yield actions, states


# Deltas that add up (RL4VLA's) count from a target that a part of an episode doesn't show.
@pytest.mark.parametrize("name", ["robosuite 1.4", "robosuite 1.5", "libero", "maniskill"])
def test_no_part_of_right_episodes_has_a_wrong_form_or_order(name: str) -> None:
    for actions, states in parts(name):
        found = codes(check(name, actions=actions, states=states))
        assert not {"wrong_rotation", "wrong_axes"} & set(found)


def six(states: list[Any]) -> list[Any]:
    """The states with 6-D columns, as RDT has them."""
    return [np.c_[s[:, :3], convert_rotation(s[:, 3:6], "rotvec", "6d_columns")] for s in states]


SIX = Convention.from_json({**pose("rotvec", "world").to_json(), "rotation": "6d_columns",
                            "layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5, 6, 7, 8]}})  # fmt: skip


def test_columns_are_never_called_rows() -> None:
    """Rows for columns is the inverse: the same motion with the sign of the gain turned round."""
    source = preset("libero")
    target = resolve(source, preset("rdt_pose_delta"))
    some = [*parts("libero", 60), (RECORDINGS["libero"].actions, RECORDINGS["libero"].states)]
    for actions, states in some:
        rdt = [convert(action, source, target) for action in actions]
        report = check_dynamics(rdt, six(states), target, 20, state_convention=SIX)
        assert "wrong_rotation" not in codes(report)
        assert report.rotations.get("6d_rows", 0) >= 0
    assert report.rotations["6d_rows"] > 15
    assert report.rotation_confirmed
    rows = replace(target, rotation="6d_rows")
    turned = check_dynamics(rdt, six(states), rows, 20, state_convention=SIX)
    assert {"wrong_sign", "wrong_rotation"} <= set(codes(turned))
    assert min(turned.rotations, key=lambda form: turned.rotations[form]) == "6d_columns"


def test_rounding_tells_nothing() -> None:
    """Two models that say the same but for the last place, always to the same side."""
    rng = np.random.default_rng(0)
    noise = 1e-13 * (5 + rng.normal(size=300))
    assert noise.mean() * np.sqrt(300) / noise.std() > 50
    assert 0 < vuong(noise) < 1e-4
    assert vuong(-noise) == -vuong(noise)
    assert vuong(np.zeros(300)) == 0


def test_the_report_fits_a_terminal() -> None:
    report = check(
        "robosuite 1.5", convention=replace(preset("robosuite_1.5_osc_pose"), rotation="euler_extrinsic_zyx")
    )
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 80
    assert "wrong_rotation: rotvec explains the motion better than" in " ".join(str(report).split())
    for form, errors in report.rotations.items():
        assert f"{form} {errors:+.1f}" in str(report)


def test_report_as_text_and_json() -> None:
    report = check("libero", fps=10)
    assert "lag +0 (+0.000 s)" in str(report)
    assert "wrong_rate: recorded at 10 steps a second, and the convention says 20" in str(report)
    facts = report.to_json()
    assert [finding["code"] for finding in facts["findings"]] == ["wrong_rate"]
    assert facts["findings"][0]["message"] == report.findings[0].message
    assert facts["ok"] is False


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"states": [np.zeros((3, 8))] * 3}, "3 states for"),
        ({"actions": [], "states": []}, "no episodes"),
        ({"convention": replace(preset("rl4vla_ppo"), kind="undeclared")}, "kind"),
        ({"convention": replace(preset("rl4vla_ppo"), frame="world")}, "base="),
        ({"convention": preset("aloha")}, "actions have left_joints, right_joints, states have translation"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check("rl4vla", **changes)
