"""Numbers that can't be what is declared of them are told; what a robot may do is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from tests.actions_data import recordings
from vla_data.actions import Convention
from vla_data.actions.plausible import implausible, unlike_numbers
from vla_data.core import Feature, Schema
from vla_data.errors import UsageError
from vla_data.steps.features import Declare

RNG = np.random.default_rng(0)
STEPS = 40
POSE: dict[str, Any] = {"layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5], "gripper": [6]}}
GRIPPER: dict[str, Any] = {"gripper_control": "position", "gripper_open": 1, "gripper_closed": 0}
CONTROLLER: dict[str, Any] = {"translation_scale": 0.05, "rotation_scale": 0.5}
RECORDINGS = recordings()


def moves(translation: float = 0.02, rotation: float = 0.1, gripper: tuple[float, float] = (0, 1)) -> Any:
    out = RNG.uniform(-1, 1, size=(STEPS, 7)) * np.r_[[translation] * 3, [rotation] * 3, 1]
    out[:3] = np.r_[[translation] * 3, [rotation] * 3, 0]  # the ends are reached
    out[:, 6] = np.where(np.arange(STEPS) % 20 < 10, *gripper)
    return out


@pytest.mark.parametrize(
    ("facts", "values", "said"),
    [
        # each unit and kind: right, and the usual wrong unit
        ({"kind": "delta", "translation_unit": "m"}, moves(0.05), None),
        (
            {"kind": "delta", "translation_unit": "m"},
            moves(20.0),
            "[0-2] declared in m, kind delta, more than 1 m",
        ),
        ({"kind": "delta", "translation_unit": "cm"}, moves(5.0), None),
        ({"kind": "absolute", "translation_unit": "m"}, moves(80.0), None),  # scenes beside each other
        ({"kind": "absolute", "translation_unit": "m"}, moves(450.0), "[0-2] declared in m"),
        ({"kind": "absolute", "translation_unit": "mm"}, moves(450.0), None),
        ({"kind": "absolute", "translation_unit": "mm"}, moves(0.45), "never more than 0.02 m from the origin"),
        ({"kind": "velocity", "translation_unit": "m"}, moves(1.5), None),
        ({"kind": "velocity", "translation_unit": "m"}, moves(1500.0), "more than 20 m a second"),
        ({"kind": "delta", "rotation": "rotvec", "rotation_unit": "rad"}, moves(rotation=3.1), None),
        (
            {"kind": "delta", "rotation": "rotvec", "rotation_unit": "rad"},
            moves(rotation=6.0),
            "[3-5] declared in rad",
        ),
        ({"kind": "delta", "rotation": "rotvec", "rotation_unit": "deg"}, moves(rotation=6.0), None),
        (
            {
                "kind": "delta",
                "rotation": "euler_extrinsic_xyz",
                "rotation_unit": "rad",
                "rotation_delta": "angle_difference",
            },
            moves(rotation=6.2),
            None,
        ),
        (
            {"kind": "absolute", "rotation": "euler_extrinsic_xyz", "rotation_unit": "rad"},
            moves(rotation=180.0),
            "rad",
        ),
        (
            {"kind": "absolute", "rotation": "euler_extrinsic_xyz", "rotation_unit": "deg"},
            moves(rotation=180.0),
            None,
        ),
        (
            {"kind": "absolute", "rotation": "euler_extrinsic_xyz", "rotation_unit": "deg"},
            moves(rotation=np.pi),
            "declared in deg, never more than pi",
        ),
        # a controller's input may be clipped now and then
        ({"translation_unit": "controller", "controller": CONTROLLER}, moves(1.0), None),
        ({"translation_unit": "controller", "controller": CONTROLLER}, moves(1.02), None),
        ({"translation_unit": "controller", "controller": CONTROLLER}, moves(20.0), "ends at 1, and beyond it"),
        ({"translation_unit": "controller", "controller": CONTROLLER}, moves(3.0), "ends at 1, and beyond it"),
        # grippers
        (GRIPPER, moves(), None),
        (GRIPPER, moves(gripper=(0, 1.1)), None),
        (GRIPPER, moves(gripper=(0, 255)), "[6] declared open at 1 and closed at 0, and far beyond"),
        (GRIPPER, moves(gripper=(0, 100)), "far beyond"),
        (GRIPPER, moves(gripper=(-1, 1)), "far beyond"),
        ({"gripper_open": 1, "gripper_closed": 0}, moves(gripper=(0, 255)), "far beyond"),
        ({"gripper_open": 1, "gripper_closed": 0}, moves(gripper=(0, 1.1)), None),
        ({"gripper_open": 1}, moves(gripper=(0, 255)), None),
        (GRIPPER | {"gripper_closed": -1, "gripper_control": "direction"}, moves(gripper=(-1, 1)), None),
        (GRIPPER | {"gripper_closed": -1, "gripper_control": "direction"}, moves(gripper=(0, 1)), "0 holds"),
        (GRIPPER | {"gripper_open": 0.08}, moves(gripper=(0, 0.08)), None),
        (GRIPPER | {"gripper_open": 0.08}, moves(gripper=(0, 80)), "far beyond"),
    ],
)
def test_what_a_seven_vector_can_be(facts: dict[str, Any], values: Any, said: str | None) -> None:
    found = implausible(values, POSE | facts)
    assert found == [] if said is None else len(found) == 1 and said in found[0]
    ends = np.stack([values.min(axis=0), values.max(axis=0)])
    assert implausible(ends, POSE | facts, rows=False) in (found, [])


@pytest.mark.parametrize("integer", [np.uint8, np.int16, np.int64])
def test_integers_are_numbers_too(integer: Any) -> None:
    values = moves(0, 0, (0, 255)).astype(integer)
    assert implausible(values, POSE | GRIPPER) == ["[6] declared open at 1 and closed at 0, and far beyond"]


def joints(size: float) -> Any:
    out = RNG.uniform(-size, size, size=(STEPS, 7))
    out[0], out[:, 6] = size, 0.5
    return out


@pytest.mark.parametrize(
    ("kind", "unit", "size", "wrong"),
    [
        ("absolute", "rad", 3.1, False),
        ("absolute", "rad", 6.28, False),
        ("absolute", "rad", 90.0, True),
        ("absolute", "deg", 90.0, False),
        ("absolute", "deg", 350.0, False),
        ("absolute", "deg", 2.5, True),
        ("absolute", "deg", 4096.0, True),
        ("delta", "rad", 0.1, False),
        ("delta", "rad", 5.0, True),
        ("delta", "deg", 5.0, False),
        ("velocity", "rad", 3.0, False),
        ("velocity", "rad", 170.0, True),
    ],
)
def test_what_joints_can_be(kind: str, unit: str, size: float, wrong: bool) -> None:
    facts = {"layout": {"joints": [0, 1, 2, 3, 4, 5], "gripper": [6]}, "kind": kind, "joint_unit": unit}
    assert bool(implausible(joints(size), facts)) == wrong


FORMS = {
    "quaternion_xyzw": lambda r: r.as_quat(),
    "quaternion_wxyz": lambda r: r.as_quat()[:, [3, 0, 1, 2]],
    "matrix": lambda r: r.as_matrix().reshape(-1, 9),
    "6d_columns": lambda r: r.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6),
    "6d_rows": lambda r: r.as_matrix()[:, :2].reshape(-1, 6),
    "6d_interleaved": lambda r: r.as_matrix()[:, :, :2].reshape(-1, 6),
}


@pytest.mark.parametrize("form", FORMS)
def test_rotations_that_are_no_angles(form: str) -> None:
    values = FORMS[form](Rotation.random(STEPS, random_state=0))
    facts = {"layout": {"rotation": list(range(values.shape[1]))}, "kind": "absolute", "rotation": form}
    assert implausible(values, facts) == []
    assert implausible(values.astype(np.float16), facts) == []
    for wrong in (values * 0, values * 1.2, np.zeros_like(values) + 0.3):
        assert len(implausible(wrong, facts)) == 1
    assert implausible(values * 0, facts, rows=False) == []


@pytest.mark.parametrize("name", RECORDINGS)
def test_real_recordings_are_what_they_declare(name: str) -> None:
    recording = RECORDINGS[name]
    for action, state in zip(recording.actions, recording.states, strict=True):
        assert implausible(action, recording.convention) == []
        assert implausible(state, recording.state_convention) == []


def test_what_says_nothing_is_not_judged() -> None:
    for facts in (None, {}, {"kind": "delta"}, {"layout": {"translation": [7, 8, 9]}}, {"layout": 3}):
        assert implausible(moves(1e6), facts) == []
    assert implausible(np.full((3, 7), np.nan), POSE | {"translation_unit": "m"}) == []


@pytest.mark.parametrize(
    ("ranges", "known", "said"),
    [
        ({"a": (-0.01, 0.01), "b": (-1, 1)}, False, ["[0] is far larger in b than in a"]),
        ({"a": (-1.5, 3), "b": (-90, 120)}, False, ["[0] is far larger in b than in a"]),
        ({"a": (-1.5, 3), "b": (-90, 120)}, True, []),
        ({"a": (-0.3, 0.5), "b": (-0.4, 0.6)}, False, []),
        ({"a": (0, 1), "b": (-1, 1)}, False, ["[0] is 0 to 1 in a, -1 to 1 in b"]),
        ({"a": (0, 1), "b": (0, 1)}, False, []),
        ({"a": (0.5, 0.5), "b": (-90, 90)}, False, []),  # it never moves in one
        ({"a": (0, 1)}, False, []),
    ],
)
def test_numbers_of_datasets_that_nobody_declared(
    ranges: dict[str, tuple[float, float]], known: bool, said: list[str]
) -> None:
    assert unlike_numbers({name: ([low], [high]) for name, (low, high) in ranges.items()}, [known]) == said


@pytest.mark.parametrize(
    ("part", "meant"),
    [
        ("eef_pos", "translation"),
        ("eef_rot", "rotation"),
        ("right_eef_quat", "right_rotation"),
        ("qpos", "joints"),
        ("left_qpos", "left_joints"),
        ("gripper_position", "gripper"),
        ("right_gripper_pos", "right_gripper"),
        ("joints_left", "left_joints"),
        ("grip", "gripper"),
        ("translation", None),
        ("left_gripper", None),
        ("terminate", None),
        ("base", None),
    ],
)
def test_parts_have_names_that_say_what_they_are(part: str, meant: str | None) -> None:
    schema = Schema(features={"action": Feature(dtype="float32", shape=(7,))}, fps=10)
    declare = Declare(conventions=(("action", (("layout", {part: list(range(3))}),)),))
    if meant is None:
        assert declare.describe(schema).features["action"].convention["layout"] == {part: [0, 1, 2]}
        return
    with pytest.raises(UsageError, match=f"E232.*call it {meant}$"):
        declare.describe(schema)


def test_physical_joints_are_radians() -> None:
    arm = Convention(layout={"joints": (0, 1)}, kind="absolute", joint_unit="deg")
    assert arm.with_units("m", "rad").joint_unit == "rad"
