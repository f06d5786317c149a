"""RDT's 128 slots: names, the worked numbers of LIBERO, the way back. SciPy and the simulators are the oracles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from converters.rdt import slots as rdt_slots
from converters.rdt.cameras import choose
from converters.rdt.vectors import LAYOUTS, Layout, slotted, to_actions, vectors
from tests import hdf5_files
from tests.paths import SHARED
from vla_data.actions import convert, preset, resolve
from vla_data.core import Episode, Feature, Schema
from vla_data.errors import DataError

ACTION = np.array([[0.5, -0.25, 0.9375, 0.2, -0.1, 0.375, 1.0]])


def six(rotation: Rotation) -> NDArray[np.float64]:
    """RDT's own formula, ``docs/test_6drot.py``: the first two columns, column by column."""
    out: NDArray[np.float64] = rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    return out


def read(path: Path, at: int = 0) -> tuple[Episode, Schema]:
    source = hdf5_files.source(path)
    episode = source.read(source.episodes()[at])
    return episode, source.schema(episode)


def test_the_names_are_rdts() -> None:
    names = rdt_slots.NAMES
    assert (len(names), len(set(names.values()))) == (144, 93)
    assert names["gripper_open"] == names["right_gripper_open"] == names["gripper_joint_0_pos"] == 10
    assert [names[f"eef_pos_{axis}"] for axis in "xyz"] == [30, 31, 32]
    assert [names[f"right_eef_angle_{i}"] for i in range(6)] == [*range(33, 39)]
    assert [names[f"eef_angular_vel_{name}"] for name in ("roll", "pitch", "yaw")] == [42, 43, 44]
    assert (names["left_arm_joint_0_pos"], names["left_gripper_open"], names["left_eef_vel_z"]) == (50, 60, 91)
    assert (names["left_gripper_open_vel"], names["base_vel_y"], names["base_angular_vel"]) == (75, 101, 102)
    assert set(range(128)) - set(names.values()) == {*range(45, 50), *range(95, 100), *range(103, 128)}


def test_every_used_slot_has_a_full_name_that_leads_back() -> None:
    for slot in set(rdt_slots.NAMES.values()):
        assert rdt_slots.NAMES[rdt_slots.name_of(slot)] == slot
    assert rdt_slots.name_of(10) == "right_gripper_open"
    with pytest.raises(ValueError, match="slot 45 has no name"):
        rdt_slots.name_of(45)


def test_a_libero_action_as_a_pose_delta_is_the_worked_example() -> None:
    libero = preset("libero")
    vector = convert(ACTION, libero, slotted(libero, "pose_delta"))[0]
    want = np.zeros(128)
    want[[30, 31, 32]] = 0.025, -0.0125, 0.046875
    want[33:39] = 0.98124653, 0.1835242, 0.05894164, -0.18850437, 0.9775114, 0.09453871
    assert np.abs(vector - want).max() < 5e-9  # the example has eight decimals
    assert np.abs(vector[33:39] - six(Rotation.from_rotvec([[0.1, -0.05, 0.1875]]))[0]).max() < 1e-15


def test_a_libero_action_as_velocities_is_the_worked_example() -> None:
    libero = preset("libero")
    fast = convert(ACTION, libero, slotted(libero, "velocity"))[0]
    assert np.allclose(fast[39:45], [0.5, -0.25, 0.9375, 2, -1, 3.75], rtol=0, atol=1e-15)
    step = convert(ACTION, libero, slotted(libero, "velocity_per_step"))[0]
    assert np.allclose(step[39:45], [0.025, -0.0125, 0.046875, 0.1, -0.05, 0.1875], rtol=0, atol=1e-17)


def test_a_libero_action_as_a_pose_is_the_worked_example() -> None:
    pose = np.array([[-0.2088, 0.0006, 1.1733, 3.1351, 0.0021, -0.0887, 0.04, -0.04]])
    found = libero_vectors(pose, ACTION, "absolute")
    assert np.abs(found.action[0, 30:33] - [-0.1838, -0.0119, 1.220175]).max() < 1e-15
    want = [0.98172835, 0.19026764, 0.00276888, 0.18975117, -0.97776416, -0.08928462]
    assert np.abs(found.action[0, 33:39] - want).max() < 5e-9
    want = [0.99839946, 0.00119047, -0.05654295, 0.00148671, -0.99998539, 0.00519743]
    assert np.abs(found.state[0, 33:39] - want).max() < 5e-9


@pytest.mark.parametrize(
    ("fingers", "opening"), [((0.04, -0.04), 1), ((0.0208, -0.0208), 0.52), ((0.001, -0.001), 0.025)]
)
def test_the_gripper_of_a_state_is_how_far_it_is_open(fingers: tuple[float, float], opening: float) -> None:
    pose = np.array([[0.0, 0, 0, 0, 0, 0, *fingers]])
    assert libero_vectors(pose, ACTION, "pose_delta").state[0, 10] == pytest.approx(opening, abs=1e-15)


def libero_vectors(state: NDArray[np.float64], action: NDArray[np.float64], layout: Layout):  # type: ignore[no-untyped-def]
    """Of states pos, rotvec, fingers, by LIBERO's names of arrays."""
    n = len(state)
    arrays = {
        "action": action,
        "observation.joint_states": np.zeros((n, 7)),
        "observation.ee_pos": state[:, :3],
        "observation.ee_ori": state[:, 3:6],
        "observation.gripper_states": state[:, 6:],
    }
    features = {name: Feature(dtype="float64", shape=array.shape[1:]) for name, array in arrays.items()}
    features["action"] = Feature(dtype="float64", shape=(7,), convention=preset("libero").to_json())
    episode = Episode(id="e", arrays=arrays, frames={}, task="t", index=np.arange(n))
    return vectors(episode, Schema(features=features, fps=20, robot="panda"), layout=layout)


def test_a_libero_demo_fills_17_slots_of_the_state_and_10_of_the_action() -> None:
    episode, schema = read(hdf5_files.LIBERO)
    found = vectors(episode, schema)
    assert np.flatnonzero(found.state_mask).tolist() == [*range(7), 10, *range(30, 39)]
    assert np.flatnonzero(found.action_mask).tolist() == [10, *range(30, 39)]
    assert not found.state[:, ~found.state_mask].any()
    assert not found.action[:, ~found.action_mask].any()
    assert found.rules["state"] == "libero"
    assert np.array_equal(found.state[:, :7], episode.arrays["observation.joint_states"])
    assert np.array_equal(found.state[:, 30:33], episode.arrays["observation.ee_pos"])
    turn = Rotation.from_rotvec(episode.arrays["observation.ee_ori"])
    assert np.abs(found.state[:, 33:39] - six(turn)).max() < 1e-15
    assert np.array_equal(found.action[:, 10], (1 - np.sign(episode.arrays["action"][:, 6])) / 2)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("path", [hdf5_files.LIBERO, hdf5_files.ROBOMIMIC], ids=["libero", "robomimic"])
def test_the_way_back_gives_what_the_simulator_executes(path: Path, layout: Layout) -> None:
    episode, schema = read(path)
    found = vectors(episode, schema, layout=layout)
    back = to_actions(
        found.action,
        found.action_convention,
        found.source,
        state=found.state,
        state_convention=found.state_convention,
    )
    executed = np.clip(episode.arrays["action"].astype(np.float64), -1, 1)
    executed[:, 6] = np.sign(executed[:, 6])  # whose size the gripper does not see
    # A unit in the last place of float64; through absolute poses ten of them.
    assert np.abs(back - executed).max() < (1e-14 if layout == "absolute" else 5e-16)


# Half a subnormal turn may be 0, which robosuite 1.4 reads as another command, so it is refused.
@given(hnp.arrays(np.float64, (5, 6), elements=st.floats(-1, 1, allow_subnormal=False)), hnp.arrays(np.bool_, 5))
def test_any_action_comes_back(motion: NDArray[np.float64], closed: NDArray[np.bool_]) -> None:
    libero = preset("libero")
    action = np.concatenate([motion, np.where(closed, 1.0, -1.0)[:, None]], axis=1)
    for layout in ("pose_delta", "velocity", "velocity_per_step"):
        target = slotted(libero, layout)
        there = convert(action, libero, target)
        back = to_actions(there, resolve(libero, target), libero)
        assert np.abs(back - action).max() < 1e-15
        assert np.array_equal(back[:, 6], action[:, 6])


def test_a_prediction_becomes_what_the_robot_can_do() -> None:
    libero = preset("libero")
    target = slotted(libero, "pose_delta")
    predicted = convert(ACTION, libero, target)
    predicted[0, 30], predicted[0, 10] = 0.3, 0.7
    predicted[0, 33:39] *= 1.1  # a network's columns are never of unit length
    action = to_actions(predicted, resolve(libero, target), libero)[0]
    assert action[0] == 1.0
    assert action[6] == -1.0
    assert np.abs(action[3:6] - ACTION[0, 3:6]).max() < 1e-15


def test_aloha_goes_to_both_arms() -> None:
    episode, schema = read(hdf5_files.ALOHA)
    found = vectors(episode, schema, layout="absolute", action_convention="aloha", state_convention="aloha")
    slots = [*range(50, 56), 60, *range(6), 10]
    assert np.array_equal(found.state[:, slots], episode.arrays["observation.state"].astype(np.float64))
    assert np.array_equal(found.action[:, slots], episode.arrays["action"].astype(np.float64))
    assert sorted(np.flatnonzero(found.state_mask)) == sorted(slots)


def test_what_is_not_known_is_refused_by_name() -> None:
    episode, schema = read(hdf5_files.LIBERO)
    silent = Schema(
        features={**schema.features, "action": Feature(dtype="float64", shape=(7,))}, fps=20, robot="panda"
    )
    with pytest.raises(DataError, match="what the actions mean is not known; declare it with --action-convention"):
        vectors(episode, silent)
    assert np.array_equal(
        vectors(episode, silent, action_convention="libero").action, vectors(episode, schema).action
    )
    without = Episode(id="e", arrays={"action": ACTION}, frames={}, task="t", index=np.arange(1))
    with pytest.raises(DataError, match="RDT needs one"):
        vectors(without, Schema(features={"action": schema.features["action"]}, fps=20, robot="panda"))


def test_cameras_are_told_by_their_names_or_declared() -> None:
    def images(*names: str) -> list[str]:
        return [f"observation.images.{name}" for name in names]

    libero = images("agentview_rgb", "eye_in_hand_rgb")
    assert choose(libero, {}) == dict(zip(("cam_high", "cam_right_wrist"), libero, strict=True))
    aloha = images("cam_high", "cam_left_wrist", "cam_right_wrist")
    assert choose(aloha, {}) == {name.rpartition(".")[2]: name for name in aloha}
    with pytest.raises(DataError, match=r"several cameras fit \(left, right\); choose one with --cam-high"):
        choose(images("left", "right"), {})
    two = images("left_hand_camera", "right_hand_camera")
    assert choose(two, {}) == {"cam_right_wrist": two[1], "cam_left_wrist": two[0]}
    assert choose(libero, {"cam_right_wrist": "none"}) == {"cam_high": libero[0]}
    with pytest.raises(DataError, match="there is no camera front; known are agentview_rgb, eye_in_hand_rgb"):
        choose(libero, {"cam_high": "front"})


@pytest.mark.skipif(not (SHARED / "libero").exists(), reason="the company's real episodes are not there")
def test_commands_of_liberos_demos_are_those_of_its_controller() -> None:
    oracle = np.load(SHARED / "libero/libero_spatial0_oracle.npz", allow_pickle=False)
    episodes = [oracle[f"demo_{i}/action"] for i in range(1, 5)]
    scaled = [oracle[f"demo_{i}/scaled"] for i in range(1, 5)]
    source = hdf5_files.source(SHARED / "libero/libero_spatial0_demo.hdf5")
    steps = []
    for ref in source.episodes():
        episode = source.read(ref)
        found = vectors(episode, source.schema(episode), layout="velocity_per_step")
        action = episode.arrays["action"]
        (which,) = [i for i, all_of in enumerate(episodes) if np.array_equal(all_of[-len(action) :], action)]
        assert np.array_equal(found.action[:, 39:45], scaled[which][-len(action) :])
        steps.append(found.action[:, 39:42])
    # Scripted motions, larger than people's 0.014 m on LIBERO-90, and metres all the same.
    assert np.concatenate(steps).std(axis=0)[0] == pytest.approx(0.0248467, abs=1e-7)
