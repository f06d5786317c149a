"""What a robosuite file says of its controller: known whole, or undeclared; never half believed."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from converters.hdf5.conventions import action_convention
from converters.hdf5.robosuite_controller import controller_of
from vla_data.core import EpisodeMeta

FACTS: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "control_delta": True,
    "input_type": "delta",
    "input_ref_frame": "world",
    "impedance_mode": "fixed",
    "kp": 150,
    "damping_ratio": 1,
    "gripper": {"type": "GRIP"},
}
SCALES = ("type", "input_max", "input_min", "output_max", "output_min")
SUBSETS = [keep for count in range(len(FACTS) + 1) for keep in combinations(FACTS, count)]


def told(meta: dict[str, Any]) -> dict[str, Any]:
    return action_convention(EpisodeMeta(meta, source="hdf5", source_length=1), 7)


def convention(
    configs: Any, version: str | None = "1.5.1", robot: str | None = "panda", **more: Any
) -> dict[str, Any]:
    controller = controller_of({"controller_configs": configs})
    meta = {
        "layout": "robomimic",
        "controller": controller,
        "env_version": version,
        "robot": robot,
        "fps": 20,
        **more,
    }
    return told(meta)


def composite(arm: Any, kind: str = "BASIC", **others: Any) -> dict[str, Any]:
    return {"type": kind, "body_parts": {"right": arm, **others}}


@pytest.mark.parametrize("version", ["1.4.1", "1.5.1", "1.3.0", None])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_subset_of_facts_is_known_whole_or_undeclared(version: str | None, wrapped: bool) -> None:
    known = 0
    for keep in SUBSETS:
        arm = {key: FACTS[key] for key in keep}
        found = convention(composite(arm) if wrapped else arm, version)
        delta = "control_delta" in keep or (version == "1.5.1" and "input_type" in keep)
        whole = set(SCALES) <= set(keep) and delta and version in ("1.4.1", "1.5.1")
        if not whole or (wrapped and version != "1.5.1"):
            assert found == {}, keep
            continue
        known += 1
        assert (found["kind"], found["reference"]) == ("delta", "current_state")
        assert (found["controller"]["translation_scale"], found["controller"]["rotation_scale"]) == (0.05, 0.5)
        told = version == "1.4.1" or "input_ref_frame" in keep
        assert found["frame"] == ("world" if told else "undeclared"), keep
        assert found["controller"]["zero_rotation"] == ("holds" if version == "1.4.1" else "applies")
    assert known == {("1.4.1", False): 64, ("1.5.1", False): 96, ("1.5.1", True): 96}.get(
        (str(version), wrapped), 0
    )


@pytest.mark.parametrize("version", ["1.4.1", "1.5.1"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("type", "OSC_POSITION"),
        ("type", "IK_POSE"),
        ("type", "JOINT_POSITION"),
        ("control_delta", False),
        ("control_delta", None),
        ("control_delta", "true"),
        ("input_type", "absolute"),
        ("input_type", None),
        ("input_ref_frame", "eef"),
        ("input_ref_frame", None),
        ("impedance_mode", "variable"),
        ("impedance_mode", "variable_kp"),
        ("position_limits", [[-1, -1, 0], [1, 1, 1]]),
        ("orientation_limits", [-1, 1]),
        ("input_max", 2),
        ("input_max", [1, 1, 1]),
        ("input_min", 0),
        ("output_max", [0.05, 0.05, 0.1, 0.5, 0.5, 0.5]),
        ("output_max", [0.1, 0.1, 0.1, 0.5, 0.5, 0.5]),
        ("output_min", [-0.05] * 7),
        ("output_max", True),
    ],
)
def test_one_fact_that_contradicts_the_others_leaves_all_undeclared(version: str, key: str, value: Any) -> None:
    assert convention({**FACTS, key: value}, version) == {}


def test_the_frame_is_that_of_the_file() -> None:
    assert convention({**FACTS, "input_ref_frame": "base"})["frame"] == "robot_base"
    assert convention({**FACTS, "input_ref_frame": "base"}, "1.4.1") == {}  # 1.4 knows the world alone


def test_a_composite_controller_is_that_of_its_only_arm() -> None:
    assert convention(composite(FACTS))["controller"]["translation_scale"] == 0.05
    arms = {"type": "BASIC", "body_parts": {"arms": {"right": FACTS}}}
    assert convention(arms)["frame"] == "world"
    assert convention({"type": "BASIC", "body_parts_controller_configs": {"arms": {"right": FACTS}}})
    spare = composite(FACTS, left={"type": "OSC_POSE"}, torso={"type": "JOINT_POSITION"})
    assert convention(spare)  # a Panda has nothing but its right arm
    assert convention(spare, robot="gr1") == convention(spare, robot=None) == {}
    assert convention(composite(FACTS, kind="HYBRID_MOBILE_BASE")) == {}
    assert convention(composite("OSC_POSE")) == convention({"type": "BASIC", "body_parts": {}}) == {}


@pytest.mark.parametrize("robot", ["panda_panda", "sawyer_panda", "panda_panda_robotiq85gripper"])
@pytest.mark.parametrize("version", ["1.4.1", "1.5.1"])
def test_two_robots_are_not_moved_by_an_action_of_one(version: str, robot: str) -> None:
    assert convention(FACTS, version, "panda") != {}
    assert convention(FACTS, version, robot) == {}


@pytest.mark.parametrize("grip", [{"type": "JOINT_POSITION"}, {}, "GRIP"])
def test_a_gripper_of_another_controller_is_undeclared(grip: Any) -> None:
    found = convention(composite({**FACTS, "gripper": grip}))
    assert found["gripper_control"] == "undeclared"
    assert "gripper_open" not in found


@pytest.mark.parametrize("changed", [{"kp": 300}, {"damping_ratio": 2}, {"kp": [150, 150, 150, 75, 75, 75]}])
def test_the_measured_gain_is_of_the_usual_arm_alone(changed: dict[str, Any]) -> None:
    assert convention(FACTS)["controller"]["translation_gain"] == 0.25
    for found in (convention({**FACTS, **changed}), convention(FACTS, fps=10)):
        assert "translation_gain" not in found["controller"]


def test_a_list_of_one_is_its_controller_and_other_things_are_none() -> None:
    assert convention([FACTS]) == convention(FACTS)
    assert convention([FACTS, FACTS]) == convention("OSC_POSE") == convention(None) == {}
    # LIBERO's environment has a controller of its own; what a file says against it counts.
    about = {"layout": "libero", "fps": 20, "robot": "panda"}
    assert told({**about, "controller": None})["controller"]["translation_scale"] == 0.05
    assert told({**about, "controller": controller_of({"controller_configs": [1, 2]})}) == {}
