"""Steps look at what numbers are declared to mean, and count right whatever their type is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from vla_data.actions import Convention, preset
from vla_data.errors import UsageError
from vla_data.steps import Rl4vlaCompat, SmallActions
from vla_data.steps.features import Declare
from vla_data.steps.gripper import gripper_events
from vla_data.steps.small_actions import moves

RL4VLA = preset("rl4vla_ppo")


def schema(convention: Convention | None, width: int = 7) -> vd.Schema:
    facts = {} if convention is None else convention.to_json()
    return vd.Schema(features={"action": vd.Feature(dtype="float32", shape=(width,), convention=facts)}, fps=5.0)


@pytest.mark.parametrize("step", [SmallActions(), Rl4vlaCompat()])
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"translation_unit": "mm"}, "pos_thresh is in m, and translation_unit of the actions is mm"),
        ({"rotation_unit": "deg"}, "rot_thresh is in rad, and rotation_unit of the actions is deg"),
        ({"kind": "absolute"}, "declared as kind absolute"),
        ({"kind": "velocity"}, "declared as kind velocity"),
        ({"layout": {"joints": (0, 1, 2, 3, 4, 5), "gripper": (6,)}}, "there is joints, gripper"),
        ({"layout": {"translation": (3, 4, 5), "rotation": (0, 1, 2)}}, r"it is in \[3, 4, 5\]"),
    ],
)
def test_thresholds_of_other_units_are_refused(step: Any, changed: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=f"E232.*{why}"):
        step.describe(schema(replace(RL4VLA, **changed)))
    for fine in (RL4VLA, None, Convention(layout=RL4VLA.layout)):
        assert step.describe(schema(fine)) == schema(fine)


@pytest.mark.parametrize("name", ["libero", "robosuite_1.5_osc_pose", "maniskill_pd_ee_delta_pose", "droid"])
def test_thresholds_in_metres_are_not_of_controller_input(name: str) -> None:
    with pytest.raises(UsageError, match=r"translation_unit of the actions is controller.*--actions physical"):
        SmallActions().describe(schema(preset(name)))
    assert SmallActions(pos=None, rot=None, initial_gripper=None).describe(schema(preset(name)))


def test_a_gripper_that_is_closed_is_not_taken_for_open() -> None:
    turned = replace(RL4VLA, gripper_open=-1.0, gripper_closed=1.0)
    with pytest.raises(UsageError, match="initial_gripper is 1, which is declared to be closed; give -1 for open"):
        SmallActions().describe(schema(turned))
    for initial in (-1.0, None):
        assert SmallActions(initial_gripper=initial).describe(schema(turned))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32"])
def test_what_moves_does_not_depend_on_the_type(dtype: str) -> None:
    """Squares of 100 wrap in eight bits and those of 60,000 in sixteen; a limit of 0.5 is 0 as an integer."""
    top = 100 if dtype in ("int8", "uint8") else 30_000 if dtype == "int16" else 60_000
    top = 10_000 if dtype == "float16" else top
    numbers = np.asarray([[0, 0, 0, 0, 0, 0, 1], [top, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, top, top, 1]], dtype)
    wanted = [False, True, True]
    assert moves(numbers, pos=0.5, rot=0.5).tolist() == wanted
    step = SmallActions(pos=0.5, rot=0.5, initial_gripper=1.0)
    assert step.keep(numbers).tolist() == wanted
    assert gripper_events(np.asarray([1, 1, 0], dtype), initial=-1.0).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"rotation": "rotvek"}, "rotvek"),
        ({"kind": "relative"}, "relative"),
        ({"frame": "base"}, "base"),
        ({"gripper_open": "wide"}, "gripper_open"),
        ({"gripper_open": 1}, "two different values"),
        ({"translation_unit": "controller"}, "controller must say"),
        ({"layout": {"joints": [0, 1, 2, 7]}}, "action has 7 numbers, and a vector of 8"),
        ({"layout": {"translation": [0, 1]}}, "takes 3 positions"),
        ({"size": 8}, "a vector of 8 is declared"),
        ({"control_rate": -1}, "control_rate"),
    ],
)
def test_words_that_do_not_exist_are_not_declared(facts: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=f"E232.*{why}"):
        Declare(conventions=(("action", tuple(facts.items())),)).describe(schema(None))


def test_what_exists_is_declared() -> None:
    facts = {"rotation": "rotvec", "layout": {"rotation": [0, 1, 2]}, "rotation_unit": "deg", "colour": "rgb"}
    declared = Declare(conventions=(("action", tuple(facts.items())),)).describe(schema(None))
    assert declared.features["action"].convention == facts


@pytest.mark.parametrize("step", [SmallActions(), Rl4vlaCompat()])
@pytest.mark.parametrize(
    ("names", "joints"),
    [
        (("shoulder_pan.pos", "shoulder_lift.pos", "elbow_flex.pos", "a", "b", "c", "gripper.pos"), True),
        (tuple(f"joint_{i}" for i in range(7)), True),
        (("x", "y", "z", "roll", "pitch", "yaw", "gripper"), False),
        (None, False),
    ],
)
def test_seven_joints_are_no_translation_and_rotation(
    step: Any, names: tuple[str, ...] | None, joints: bool
) -> None:
    named = schema(None)
    named = replace(named, features={"action": replace(named.features["action"], names=names)})
    if joints:
        with pytest.raises(UsageError, match=r"E232.*joints by their names; .*--pos-thresh none"):
            step.describe(named)
    else:
        assert step.describe(named) == named
    off = SmallActions(pos=None, rot=None)
    assert off.describe(named) == named
