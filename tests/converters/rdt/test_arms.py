"""Any arm's data may be RDT's: seven joints are not a Panda's by their number, and an opening is no width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from converters.hdf5.dialects.in_data import robot_of
from converters.rdt import bugs
from converters.rdt.opening import width
from converters.rdt.panda import is_panda, panda_orientation
from converters.rdt.vectors import vectors
from tests import hdf5_files
from tests.paths import ROOT
from vla_data.actions import preset
from vla_data.core import Episode, Feature, Schema
from vla_data.errors import DataError, UsageError

Floats = NDArray[np.float64]
POSES = ROOT / "tests/data/hdf5/libero_spatial0_poses.npz"


def columns(matrices: Floats) -> Floats:
    return np.concatenate((matrices[:, :, 0], matrices[:, :, 1]), axis=1)


def rows(matrices: Floats) -> Floats:
    return np.concatenate((matrices[:, 0, :], matrices[:, 1, :]), axis=1)


def followed(steps: int = 300, seed: int = 3, gain: float = 0.25) -> tuple[Floats, Floats, Floats]:
    """Positions, rotation matrices, and controller inputs ``(T, 7)`` that an arm follows as LIBERO's does."""
    rng = np.random.default_rng(seed)
    inputs, ahead = np.zeros((steps, 7)), np.zeros(6)
    for i in range(steps):
        ahead = 0.9 * ahead + rng.normal(scale=0.12, size=6)
        inputs[i, :6] = np.clip(ahead, -0.95, 0.95)
    inputs[:, 6] = np.where((np.arange(steps) // 50) % 2 == 0, -1, 1)
    place, turn = np.zeros((steps, 3)), [Rotation.from_rotvec([3.0, 0.2, 0])]
    v = w = np.zeros(3)
    for i in range(steps - 1):
        v = 0.7 * v + 0.3 * gain * 0.05 * inputs[i, :3]
        w = 0.7 * w + 0.3 * 0.2 * 0.5 * inputs[i, 3:6]
        place[i + 1] = place[i] + v + rng.normal(scale=1e-5, size=3)
        turn.append(Rotation.from_rotvec(w + rng.normal(scale=1e-4, size=3)) * turn[-1])
    return place, np.asarray([t.as_matrix() for t in turn]), inputs


def pair() -> tuple[Floats, Floats]:
    place, turned, inputs = followed()
    state, action = np.zeros((len(inputs), 128)), np.zeros((len(inputs), 128))
    state[:, 30:33], state[:, 33:39] = place, columns(turned)
    state[:, 10] = np.r_[1, (1 - inputs[:-1, 6]) / 2]
    action[:, 30:33] = inputs[:, :3] * 0.05
    action[:, 33:39] = columns(Rotation.from_rotvec(inputs[:, 3:6] * 0.5).as_matrix())
    action[:, 10] = (1 - inputs[:, 6]) / 2
    return state, action


def found(state: Floats, action: Floats) -> set[str]:
    return {bug.code for bug in bugs.find([(state, action)])}


@pytest.mark.parametrize("width", [0.04, 0.05, 0.07, 0.08, 0.085, 0.14])
def test_openings_in_metres_are_named(width: float) -> None:
    state, action = pair()
    assert found(state, action) == set()
    state[:, 10] *= width
    assert found(state, action) == {"gripper_in_metres"}
    action[:, 10] *= width
    assert found(state, action) == {"gripper_in_metres"}


def test_a_gripper_that_is_never_told_to_open_may_stay_nearly_closed() -> None:
    state, action = pair()
    action[:, 10] = np.where(np.arange(len(action)) < 3, 1.0, 0.0)
    state[:, 10] = 0.1 + 0.02 * np.sin(np.arange(len(state)))
    assert "gripper_in_metres" not in found(state, action)
    action[:, 10] = 0.0
    assert "gripper_in_metres" not in found(state, action)


@pytest.mark.parametrize("narrow", [0.001, 0.02, 0.04, 0.12])
def test_a_gripper_that_stays_closed_is_as_narrow_in_any_unit(narrow: float) -> None:
    state, action = pair()
    state[:, 10] = narrow * (1 - 0.2 * np.random.default_rng(0).random(len(state)))
    assert "gripper_in_metres" in found(state, action)  # it is told to open, and does not
    action[:, 10] = 0
    assert "gripper_in_metres" not in found(state, action)
    action[-5:, 10] = 1  # the object is let go at the very end
    assert "gripper_in_metres" not in found(state, action)


@pytest.mark.parametrize("seed", range(3))
def test_rows_for_columns_are_named_in_states_and_in_actions(seed: int) -> None:
    place, turned, inputs = followed(seed=seed)
    steps = Rotation.from_rotvec(inputs[:, 3:6] * 0.5).as_matrix()
    state, action = pair()
    state[:, 30:33], action[:, 30:33] = place, inputs[:, :3] * 0.05
    for of_state in (columns, rows):
        for of_action in (columns, rows):
            state[:, 33:39], action[:, 33:39] = of_state(turned), of_action(steps)
            codes = found(state, action)
            assert bool(codes & {"wrong_rotation", "wrong_sign"}) == (rows in (of_state, of_action)), codes


def iiwa(joints: Floats) -> tuple[Floats, Floats]:
    """Position and orientation of a KUKA's flange, by its Denavit-Hartenberg table."""
    turn, place = np.eye(3), np.zeros(3)
    twists, offsets = np.deg2rad([-90, 90, 90, -90, -90, 90, 0]), [0.34, 0, 0.4, 0, 0.4, 0, 0.126]
    for q, alpha, d in zip(joints, twists, offsets, strict=True):
        turn = turn @ Rotation.from_euler("z", q).as_matrix()
        place = place + turn @ np.asarray([0, 0, d])
        turn = turn @ Rotation.from_euler("x", alpha).as_matrix()
    return place, turn


def wandering(seed: int) -> Floats:
    rng = np.random.default_rng(seed)
    return np.asarray([0, 0.65, 0, -1.9, 0, 0.6, 0]) + np.cumsum(rng.normal(scale=0.01, size=(140, 7)), axis=0)


@pytest.mark.parametrize("seed", range(4))
def test_a_kukas_joints_are_no_pandas(seed: int) -> None:
    joints = wandering(seed)
    poses = [iiwa(q) for q in joints]
    place, turned = np.asarray([p for p, _ in poses]), np.asarray([t for _, t in poses])
    assert not is_panda(joints, place)
    state = np.zeros((len(joints), 128))
    state[:, :7], state[:, 30:33], state[:, 33:39] = joints, place, columns(turned)
    assert not list(bugs._orientation([(state, state)]))


@pytest.fixture(scope="module")
def libero() -> list[Floats]:
    """States of LIBERO's demos in RDT's slots."""
    out = []
    with np.load(POSES) as file:
        demos = sorted({name.split("/")[0] for name in file.files})
        for demo in demos:
            joints, place, turn = (file[f"{demo}/{key}"] for key in ("joint_states", "ee_pos", "ee_ori"))
            state = np.zeros((len(place), 128))
            state[:, :7], state[:, 30:33] = joints, place
            state[:, 33:39] = columns(Rotation.from_rotvec(turn).as_matrix())
            out.append(state)
    return out


def test_a_pandas_wrong_orientation_is_named_by_its_own_positions(libero: list[Floats]) -> None:
    assert not list(bugs._orientation([(state, state) for state in libero]))
    for state in libero:
        assert is_panda(state[:, :7], state[:, 30:33])
        assert not is_panda(state[:, :7], state[:, [32, 31, 30]])
    wrong = [state.copy() for state in libero]
    for state in wrong:
        joints = Rotation.from_quat(panda_orientation(state[:, :7])).as_matrix()
        state[:, 33:39] = rows(joints)
    (bug,) = bugs._orientation([(state, state) for state in wrong])
    assert bug.code == "wrong_orientation"
    assert "rows of the rotation matrix" in bug.message


@pytest.mark.parametrize("side", ["base", "tool"])
def test_a_panda_whose_base_or_tool_is_turned_is_right(libero: list[Floats], side: str) -> None:
    turn = Rotation.from_euler("z", 0.6)
    pairs = []
    for state in libero:
        out = state.copy()
        was = Rotation.from_quat(panda_orientation(state[:, :7]))
        out[:, 33:39] = columns((turn * was if side == "base" else was * turn).as_matrix())
        pairs.append((out, out))
    assert not list(bugs._orientation(pairs))


# -- how far a gripper opens ---------------------------------------------------------------------------------


def gripped(robot: str | None, widest: float = 0.08) -> tuple[Episode, Schema]:
    """An episode of real numbers, of a robot, whose fingers are ``widest`` metres apart at most."""
    source = hdf5_files.source(hdf5_files.LIBERO)
    episode = source.read(source.episodes()[0])
    half = np.linspace(0, widest / 2, len(episode))
    arrays = {**episode.arrays, "observation.gripper_states": np.stack([half, -half], axis=1)}
    return replace(episode, arrays=arrays), replace(source.schema(episode), robot=robot)


@pytest.mark.parametrize(
    ("robot", "opening", "widest", "full"),
    [
        ("panda", None, 0.08, 1.0),
        ("franka", None, 0.04, 0.5),
        ("panda_wristcam", None, 0.08, 1.0),
        ("panda", 0.16, 0.08, 0.5),
        (None, 0.085, 0.085, 1.0),
        ("ur5e", 0.1, 0.05, 0.5),
    ],
)
def test_an_opening_is_the_robots_or_the_declared_one(
    robot: str | None, opening: float | None, widest: float, full: float
) -> None:
    episode, schema = gripped(robot, widest)
    state = vectors(episode, schema, opening=opening).state
    assert np.allclose(state[:, 10], np.linspace(0, full, len(episode)))


@pytest.mark.parametrize("robot", [None, "ur5e", "sawyer", "panda_robotiq85gripper", "widowx"])
def test_an_opening_that_nobody_tells_is_asked_for(robot: str | None) -> None:
    episode, schema = gripped(robot)
    with pytest.raises(DataError, match="--gripper-opening METRES") as caught:
        vectors(episode, schema)
    assert caught.value.code == "E231"


@pytest.mark.parametrize("gap", [0.05, 0.0855, 0.14])
@pytest.mark.parametrize(("steps", "rests"), [(20, True), (40, True), (19, False), (0, False)])
def test_an_opening_is_measured_where_the_gripper_rests_open(gap: float, steps: int, rests: bool) -> None:
    """Told to be open for so many steps, then to close; it opens and closes within five steps."""
    convention = preset("libero")
    actions = np.zeros((60, 7))
    actions[:, 6] = np.where(np.arange(60) < steps, convention.gripper_open, convention.gripper_closed)
    apart = np.clip(np.minimum(np.arange(60) / 5, 1 - (np.arange(60) - steps) / 5), 0, 1) * gap
    fingers = np.stack([apart / 2, -apart / 2], axis=1)
    silent = Schema(features={}, fps=20)
    if rests:
        assert width(fingers, silent, None, actions, convention) == pytest.approx(gap, abs=6e-4)
    else:
        with pytest.raises(UsageError, match="--gripper-opening"):
            width(fingers, silent, None, actions, convention)


def test_fingers_that_are_further_apart_than_their_gripper_opens_are_refused() -> None:
    episode, schema = gripped("panda", 0.12)
    with pytest.raises(DataError, match=r"0.12 m apart, further than the 0.08 m") as caught:
        vectors(episode, schema)
    assert caught.value.code == "E202"


@pytest.mark.parametrize(
    ("kwargs", "robot"),
    [
        ({"robots": ["Panda"]}, "panda"),
        ({"robots": "Panda", "gripper_types": "default"}, "panda"),
        ({"robots": ["Panda"], "gripper_types": ["PandaGripper"]}, "panda"),
        ({"robots": ["Panda"], "gripper_types": "Robotiq85Gripper"}, "panda_robotiq85gripper"),
        ({"robots": ["Panda"], "gripper_types": [None]}, "panda"),
        ({"robots": ["Panda"], "gripper_types": {"right": 1}}, "panda_othergripper"),
        ({}, None),
    ],
)
def test_a_robot_with_another_gripper_is_called_so(kwargs: dict[str, object], robot: str | None) -> None:
    assert robot_of(kwargs) == robot


@pytest.mark.parametrize("fingers", [1, 3, 6])
def test_a_gripper_of_other_joints_is_declared_by_one_of_them(fingers: int) -> None:
    episode, schema = gripped(None)
    count = len(episode)
    arrays = dict(episode.arrays)
    bent = np.linspace(0, 0.8, count)
    arrays["observation.gripper_states"] = np.tile(bent[:, None], (1, fingers))
    place, turn = arrays["observation.ee_pos"], arrays["observation.ee_ori"]
    arrays["observation.state"] = np.concatenate(
        [place, turn, arrays["observation.gripper_states"]], axis=1
    ).astype(np.float64)
    facts: dict[str, Any] = {
        "layout": {"translation": [0, 1, 2], "rotation": [3, 4, 5]},
        "kind": "absolute",
        "frame": "world",
        "translation_unit": "m",
        "rotation": "rotvec",
        "rotation_unit": "rad",
    }
    asked = {**facts, "layout": {**facts["layout"], "fingers": list(range(6, 6 + fingers))}}
    told = {**facts, "layout": {**facts["layout"], "gripper": [6]}}
    told |= {"gripper_control": "position", "gripper_open": 0.0, "gripper_closed": 0.8}

    def slots(convention: Mapping[str, Any]) -> Floats:
        feature = Feature(dtype="float64", shape=(6 + fingers,), convention=convention)
        return vectors(
            replace(episode, arrays=arrays),
            replace(schema, features={**schema.features, "observation.state": feature}),
        ).state

    with pytest.raises(DataError, match=rf"E231.*gripper_states has {fingers} numbers, not two.*--declare"):
        slots(asked)
    np.testing.assert_allclose(slots(told)[:, 10], 1 - bent / 0.8, atol=1e-12)
