"""Known mistakes in data for RDT are found by name, in real episodes, by the numbers or beside the source."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from converters.rdt import bugs as rdt_bugs
from converters.rdt import judge as rdt_read
from converters.rdt.beside import compare
from converters.rdt.panda import panda_orientation
from converters.rdt.sink import RdtSink
from converters.rdt.vectors import LAYOUTS, Layout, Vectors, vectors
from tests import actions_data, hdf5_files
from tests.paths import SHARED as SHARED_DATA
from vla_data.actions import preset
from vla_data.cli.verify import command
from vla_data.core import Episode, Feature, Schema
from vla_data.jobs import run as pipeline

Floats = NDArray[np.float64]
Change = Callable[[Floats, Floats, Episode], tuple[Floats, Floats]]
SHARED = SHARED_DATA / "libero/libero_spatial0_demo.hdf5"


def six(rotation: Rotation) -> Floats:
    """RDT's 6-D: the first two columns, column by column."""
    out: Floats = rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    return out


def whole_episodes() -> list[tuple[Episode, Vectors]]:
    """LIBERO's four demos in full length, without images, from the file of real actions and states."""
    out: list[tuple[Episode, Vectors]] = []
    recording = actions_data.recordings()["libero"]
    for action, state in zip(recording.actions, recording.states, strict=True):
        n = len(action)
        arrays = {
            "action": action,
            "observation.joint_states": np.zeros((n, 7)),
            "observation.ee_pos": state[:n, :3],
            "observation.ee_ori": state[:n, 3:6],
            "observation.gripper_states": np.stack([state[:n, 6], -state[:n, 6]], axis=1),
        }
        features = {name: Feature(dtype="float64", shape=array.shape[1:]) for name, array in arrays.items()}
        features["action"] = Feature(dtype="float64", shape=(7,), convention=preset("libero").to_json())
        episode = Episode(id=str(len(out)), arrays=arrays, frames={}, task="t", index=np.arange(n))
        out.append((episode, vectors(episode, Schema(features=features, fps=20, robot="panda"))))
    return out


def cut_episodes() -> list[tuple[Episode, Vectors]]:
    """The last rows of real demos, with joints."""
    source = hdf5_files.source(hdf5_files.LIBERO)
    episodes = [source.read(ref) for ref in source.episodes()]
    return [(episode, vectors(episode, source.schema(episode))) for episode in episodes]


def inverted_gripper(state: Floats, action: Floats, _: Episode) -> tuple[Floats, Floats]:
    action[:, 10] = 1 - action[:, 10]
    return state, action


def euler_state(state: Floats, action: Floats, episode: Episode) -> tuple[Floats, Floats]:
    state[:, 33:39] = six(Rotation.from_euler("xyz", episode.arrays["observation.ee_ori"]))
    return state, action


def euler_action(state: Floats, action: Floats, episode: Episode) -> tuple[Floats, Floats]:
    turns = 0.5 * np.clip(episode.arrays["action"][:, 3:6], -1, 1)
    action[:, 33:39] = six(Rotation.from_euler("xyz", turns))
    return state, action


def observation_shift(state: Floats, action: Floats, _: Episode) -> tuple[Floats, Floats]:
    return state[1:], action[:-1]


def scaled(factor: float) -> Change:
    def change(state: Floats, action: Floats, _: Episode) -> tuple[Floats, Floats]:
        action[:, 30:33] *= factor / 0.05
        return state, action

    return change


def gripper_in_metres(state: Floats, action: Floats, _: Episode) -> tuple[Floats, Floats]:
    state[:, 10] *= 0.04
    return state, action


def swapped_axes(state: Floats, action: Floats, _: Episode) -> tuple[Floats, Floats]:
    action[:, [30, 31]] = action[:, [31, 30]]
    return state, action


def changed(episodes: list[tuple[Episode, Vectors]], change: Change) -> list[rdt_bugs.Pair]:
    return [change(want.state.copy(), want.action.copy(), episode) for episode, want in episodes]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_good_data_of_every_layout_has_none(layout: Layout) -> None:
    pairs, found = [], None
    for episode, _ in whole_episodes():
        names = {name: Feature(dtype="float64", shape=array.shape[1:]) for name, array in episode.arrays.items()}
        names["action"] = Feature(dtype="float64", shape=(7,), convention=preset("libero").to_json())
        found = vectors(episode, Schema(features=names, fps=20, robot="panda"), layout=layout)
        pairs.append((found.state, found.action))
    assert found is not None
    assert (
        rdt_bugs.find(pairs, convention=found.action_convention, masks=(found.state_mask, found.action_mask)) == []
    )


def test_good_data_has_none() -> None:
    for episodes in (whole_episodes(), cut_episodes()):
        pairs = [(want.state, want.action) for _, want in episodes]
        first = episodes[0][1]
        masks = (first.state_mask, first.action_mask)
        assert rdt_bugs.find(pairs, convention=first.action_convention, masks=masks) == []
        assert compare(pairs, [want for _, want in episodes], [episode for episode, _ in episodes]) == []


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (inverted_gripper, {"inverted_gripper"}),
        (observation_shift, {"observation_shift"}),
        (scaled(1.0), {"wrong_unit"}),
        (scaled(1.2), {"wrong_unit"}),
        (scaled(0.012), {"wrong_scale"}),
        (scaled(-0.012), {"wrong_scale", "wrong_sign"}),
        (swapped_axes, {"wrong_axes"}),
        (euler_action, set()),  # too near to tell, and nothing else is said instead
        (gripper_in_metres, {"gripper_in_metres"}),
    ],
)
def test_numbers_alone_tell(change: Change, codes: set[str]) -> None:
    assert {bug.code for bug in rdt_bugs.find(changed(whole_episodes(), change))} == codes


def test_the_joints_tell_an_orientation_that_was_read_as_euler_angles() -> None:
    (bug,) = rdt_bugs.find(changed(cut_episodes(), euler_state))
    assert bug.code == "euler_state"
    source = hdf5_files.source(hdf5_files.ROBOMIMIC)
    episode = source.read(source.episodes()[0])
    joints = episode.arrays["observation.robot0_joint_pos"]
    turn = episode.arrays["observation.robot0_eef_quat"]
    ours = Rotation.from_quat(panda_orientation(joints.astype(np.float64)))
    assert (
        ours.inv() * Rotation.from_quat(turn)
    ).magnitude().max() < 1e-6  # float32, and robosuite's own kinematics


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (inverted_gripper, {"inverted_gripper"}),
        (euler_state, {"euler_state"}),
        (euler_action, {"euler_action"}),
        (observation_shift, {"observation_shift"}),
        (swapped_axes, {"wrong_axes"}),
        (scaled(1.2), {"wrong_unit"}),
        (scaled(0.012), {"wrong_scale"}),
    ],
)
def test_the_source_tells_exactly(change: Change, codes: set[str]) -> None:
    for episodes in (whole_episodes(), cut_episodes()):
        want = [vector for _, vector in episodes]
        found = compare(changed(episodes, change), want, [episode for episode, _ in episodes])
        assert {bug.code for bug in found} == codes


def test_the_factor_is_named() -> None:
    episodes = whole_episodes()
    pairs = changed(episodes, scaled(0.012))
    found = compare(pairs, [want for _, want in episodes], [episode for episode, _ in episodes])
    assert (
        found[0].message == "action: moves are 0.24 times the metres that are commanded (0.012 for an input of 1)"
    )


def test_an_indicator_of_ones_is_found() -> None:
    pairs = [(want.state, want.action) for _, want in cut_episodes()]
    ones = np.ones(128, dtype=bool)
    messages = [bug.message for bug in rdt_bugs.find(pairs, masks=(ones, ones)) if bug.code == "loose_indicator"]
    assert messages == [
        "state: the indicator is 1 in 128 slots, and 17 are ever filled",
        "action: the indicator is 1 in 128 slots, and 10 are ever filled",
    ]


def stat(**rows: dict[int, float]) -> dict[str, list[float]]:
    return {name: [values.get(i, 0.0) for i in range(128)] for name, values in rows.items()}


def test_the_guides_statistics_pass_and_the_forks_later_ones_do_not() -> None:
    """Published ``dataset_stat.json`` of the fork, of the slots that matter."""
    guide = stat(action_mean={10: 0.478, 30: 9e-5}, action_std={10: 0.5, 30: 0.01417, 31: 0.01875, 32: 0.02149})
    assert rdt_bugs.stat_bugs(guide) == []
    small = stat(action_std={30: 0.003, 31: 0.00399, 32: 0.00504})
    assert [bug.code for bug in rdt_bugs.stat_bugs(small)] == ["wrong_scale"]
    centimetres = stat(action_std={30: 0.32767, 31: 0.46709, 32: 0.48639})
    assert [bug.code for bug in rdt_bugs.stat_bugs(centimetres)] == ["wrong_unit"]
    fingers = stat(state_min={10: 0.0016}, state_max={10: 0.04072})
    assert [bug.code for bug in rdt_bugs.stat_bugs(fingers)] == ["gripper_in_metres"]
    stale = {"state_mean": [0.0] * 89}  # as RDT's own entry of ``bridge`` is
    assert [bug.code for bug in rdt_bugs.stat_bugs(stale)] == ["wrong_size"]


def foreign(root: Path, pairs: list[rdt_bugs.Pair]) -> None:
    """Files that somebody else wrote in RDT's layout, without anything of ours."""
    root.mkdir()
    for number, (state, action) in enumerate(pairs):
        with h5py.File(root / f"episode_{number}.hdf5", "w") as file:
            file["observations/qpos"], file["action"] = state, action


def test_somebodys_files_are_judged_with_and_without_their_source(tmp_path: Path) -> None:
    foreign(tmp_path / "set", changed(cut_episodes(), euler_action))
    assert rdt_read.judge(tmp_path / "set").bugs == ()
    judged = rdt_read.judge(tmp_path / "set", source=hdf5_files.source(hdf5_files.LIBERO))
    assert [bug.code for _, bug in judged.bugs] == ["euler_action"]
    assert (judged.episodes, judged.steps) == (3, 29)


def test_the_command_names_them_and_fails(tmp_path: Path) -> None:
    foreign(tmp_path / "set", changed(cut_episodes(), inverted_gripper))
    against = ["--against", str(hdf5_files.LIBERO), "--json"]
    run = CliRunner().invoke(command, ["--trainer", "rdt", str(tmp_path / "set"), *against])
    assert run.exit_code == 6
    report = json.loads(run.stdout)
    assert [bug["code"] for bug in report["bugs"]] == ["inverted_gripper"]
    file = tmp_path / "dataset_stat.json"
    file.write_text(json.dumps({"libero_90": stat(action_std={30: 0.01417})}))
    run = CliRunner().invoke(command, ["--check", "rdt", str(file)])
    assert run.exit_code == 0
    assert "action_std of slots 30 to 32: 0.01417, 0.00000, 0.00000" in run.stdout


@pytest.mark.skipif(not SHARED.exists(), reason="the company's real episodes are not there")
def test_a_real_file_of_libero_is_converted_without_any(tmp_path: Path) -> None:
    source = hdf5_files.source(SHARED)
    pipeline.run(source, (), RdtSink(target=tmp_path / "set", name="libero"))
    judged = rdt_read.judge(tmp_path / "set", source=source)
    assert judged.bugs == ()
    assert judged.action_std[0] == pytest.approx(0.0248467, abs=1e-7)
