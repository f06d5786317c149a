"""Actions in parts, poses in place of deltas, other cameras, instructions anywhere: the right values of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from tests.hdf5_files import ROBOMIMIC, edited, pixels, read, replace, robomimic_file, source
from vla_data.cli.stats import command as stats
from vla_data.core.base import narrowed
from vla_data.core.curate import curate
from vla_data.errors import DataError
from vla_data.selection.mapping import table_steps
from vla_data.steps import SelectFeatures

STEPS = 5
RNG = np.random.default_rng(5)
PLACE, TURN, GRIP = RNG.normal(size=(STEPS, 3)), RNG.normal(size=(STEPS, 3)), RNG.integers(0, 2, STEPS)


# -- actions -----------------------------------------------------------------------------------------------


def in_parts(layout: str, path: Path, group: str) -> Path:
    """A file whose actions are a group of three datasets."""
    parts = {f"{group}/place": PLACE, f"{group}/turn": TURN, f"{group}/grip": GRIP}
    with h5py.File(path, "w") as file:
        if layout == "aloha":
            demo: Any = file
            file["observations/qpos"] = np.zeros((STEPS, 14))
        elif layout == "maniskill":
            demo = file.create_group("traj_0")
            demo["obs/agent/qpos"] = np.zeros((STEPS + 1, 9))
        else:
            file.create_group("data").attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": 10}})
            demo = file.create_group("data/demo_0")
            demo["obs/eef"] = np.zeros((STEPS, 3))
        for name, values in parts.items():
            demo[name] = values
    return path


@pytest.mark.parametrize(
    ("layout", "group"),
    [("aloha", "action"), ("maniskill", "actions"), ("robomimic", "actions"), ("robomimic", "action_dict")],
)
def test_actions_in_parts_are_read_and_joined(tmp_path: Path, layout: str, group: str) -> None:
    rate = {} if layout == "robomimic" else {"fps": 10}
    path = in_parts(layout, tmp_path / "a.h5", group)
    opened = source(path, task="x", **rate)
    episode = opened.read(opened.episodes()[0])
    for name, values in (("place", PLACE), ("turn", TURN), ("grip", GRIP)):
        assert np.array_equal(episode.arrays[f"action.{name}"], values)
    assert "action" not in episode.arrays
    assert not any(name.startswith("action_dict") for name in episode.arrays)
    table = {"join": {"action": ["action.turn", "action.place", "action.grip"]}, "keep": ["action"]}
    steps = table_steps(table, opened, ())
    joined = curate(opened.read(opened.episodes()[0]), steps, opened.schema(episode)).episode
    assert joined is not None
    assert np.array_equal(joined.arrays["action"], np.concatenate([TURN, PLACE, GRIP[:, None]], axis=1))


def test_other_forms_beside_the_actions_stay_what_they_are(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", action_dict__abs_pos=PLACE, actions_abs=np.ones((STEPS, 7)))
    episode = read(path, task="x")
    assert np.array_equal(episode.arrays["action_dict.abs_pos"], PLACE)
    assert episode.arrays["action"].shape == (STEPS, 7)


def test_parts_of_unequal_length_are_refused_by_name(tmp_path: Path) -> None:
    path = in_parts("robomimic", tmp_path / "a.h5", "actions")
    with h5py.File(path, "r+") as file:
        replace(file, "data/demo_0/actions/turn", TURN[1:])
    with pytest.raises(DataError, match=r"actions/turn has 4 rows.*--leave-out actions/turn") as caught:
        read(path, task="x")
    assert caught.value.code == "E204"
    assert "action.turn" not in read(path, task="x", leave_out=("actions/turn",)).arrays


@pytest.mark.parametrize("what", ["poses", "poses that are near", "deltas", "no position"])
def test_poses_in_the_place_of_deltas_are_undeclared(tmp_path: Path, what: str) -> None:
    """diffusion_policy's files: absolute poses, and ``env_args`` that still names a controller of deltas."""

    def change(file: Any) -> None:
        for name in file["data"]:
            demo = file["data"][name]
            action, place = demo["actions"][:], demo["obs/robot0_eef_pos"][:]
            if what.startswith("poses"):
                action[:, :3] = place + (0.04 if what == "poses that are near" else 0.0)
                action[:, 3:6] = [3.1, 0.0, 0.1]
            elif what == "no position":
                del demo["obs/robot0_eef_pos"]
            demo["actions"][:] = action

    path = edited(ROBOMIMIC, tmp_path / ROBOMIMIC.name, change)
    opened = source(path, task="x")
    episode = opened.read(opened.episodes()[0])
    told = opened.schema(episode).features["action"].convention
    assert (told == {}) == what.startswith("poses")
    assert ("actions_are_poses:action" in episode.notes) == what.startswith("poses")
    if not what.startswith("poses"):
        assert told["kind"] == "delta"


# -- cameras -----------------------------------------------------------------------------------------------

SIDES = (20, 24)


def test_channels_first_is_the_same_camera(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (STEPS, *SIDES, 3), dtype=np.uint8)
    last = read(robomimic_file(tmp_path / "a.h5", obs__cam=images, obs__front=None), task="x")
    first = read(
        robomimic_file(tmp_path / "b.h5", obs__cam=images.transpose(0, 3, 1, 2), obs__front=None), task="x"
    )
    assert list(first.frames) == list(last.frames) == ["observation.images.cam"]
    assert np.array_equal(pixels(first, "observation.images.cam"), images)
    assert np.array_equal(pixels(last, "observation.images.cam"), images)
    assert "channels_first:cam" in first.notes
    assert "channels_first:cam" not in last.notes


@pytest.mark.parametrize(
    ("values", "is_told"),
    [
        (np.ones((STEPS, *SIDES, 4), np.uint8), True),
        (np.ones((STEPS, *SIDES, 3), np.float32), True),
        (np.ones((STEPS, 3, *SIDES), np.float16), True),
        (np.ones((STEPS, *SIDES, 1), np.float32), False),
        (np.ones((STEPS, *SIDES), np.uint16), False),
        (np.ones((STEPS, 3, 4, 4), np.uint8), False),
        (np.ones((STEPS, 4, 4), np.float32), False),
    ],
)
def test_what_looks_like_pictures_stays_what_it_is_with_a_word(tmp_path: Path, values: Any, is_told: bool) -> None:
    episode = read(robomimic_file(tmp_path / "a.h5", obs__x=values), task="x")
    assert np.array_equal(episode.arrays["observation.x"], values)
    assert ("pictures_kept_as_numbers:observation.x" in episode.notes) == is_told


@pytest.mark.parametrize("type_", [">f4", ">f8", ">i4", "<u2", ">u8", "?"])
def test_numbers_of_any_byte_order_keep_their_values(tmp_path: Path, type_: str) -> None:
    values = np.asarray([[0, 1], [2, 3], [1, 0], [5, 6], [7, 8]]).astype(type_)
    found = read(robomimic_file(tmp_path / "a.h5", obs__x=values), task="x").arrays["observation.x"]
    assert found.dtype.isnative
    assert np.array_equal(found, values)


# -- instructions ------------------------------------------------------------------------------------------


def texts(*rows: str) -> Any:
    return np.asarray(rows, dtype=object)


@pytest.mark.parametrize("where", ["language_instruction", "obs__language_instruction", "prompt"])
def test_an_instruction_that_changes_is_that_of_each_step(tmp_path: Path, where: str) -> None:
    path = robomimic_file(tmp_path / "a.h5", **{where: texts("a", "a", "b", "b", "c")})
    opened = source(path)
    episode = opened.read(opened.episodes()[0])
    assert episode.task == "a"
    assert episode.arrays["task"].tolist() == ["a", "a", "b", "b", "c"]
    assert "task" not in opened.schema(episode).features
    assert read(path, task="x").task == "x"
    assert "task" not in read(path, task="x").arrays


def test_an_instruction_is_taken_from_the_place_that_is_named(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "a.h5", notes=texts(*"abcde"), goal=texts(*["reach"] * STEPS))
    with h5py.File(path, "r+") as file:
        file["data/demo_0"].attrs["task"] = "lift the cube"
        file["data"].attrs["purpose"] = "of the file"
    for name, want in (("task", "lift the cube"), ("purpose", "of the file"), ("goal", "reach"), ("notes", "a")):
        assert read(path, instruction=name).task == want
    assert read(path, instruction="notes").arrays["task"].tolist() == list("abcde")
    with pytest.raises(DataError, match=r"attribute task.*goal.*notes.*--instruction NAME") as caught:
        read(path)
    assert caught.value.code == "E211"
    with pytest.raises(DataError, match="no text else in the file"):
        read(path, instruction="else")


@pytest.mark.parametrize("text", ["two\nlines", "tab\there", "x" * 3000])
def test_instructions_may_have_lines_and_length(tmp_path: Path, text: str) -> None:
    path = robomimic_file(tmp_path / "a.h5", language_instruction=texts(text))
    episode = read(path)
    assert episode.task == text
    assert not [note for note in episode.notes if "language_instruction" in note]


# -- what is wanted ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.zeros((2, 2)), np.zeros(STEPS, dtype=[("a", "i4"), ("b", "f4")])])
def test_what_is_not_kept_is_not_looked_at(tmp_path: Path, bad: Any) -> None:
    path = robomimic_file(tmp_path / "a.h5", obs__bad=bad, obs__group__good=PLACE)
    step = SelectFeatures(keep=("action", "observation.group.*", "observation.eef"))
    with pytest.raises(DataError, match="obs/bad"):
        read(path, task="x")
    opened = narrowed(source(path, task="x"), (step,))
    found = step.apply(opened.read(opened.episodes()[0]))
    assert set(found.arrays) == {"action", "observation.group.good", "observation.eef"}
    assert not found.frames


def test_a_state_that_goes_with_its_parts_is_named_with_them() -> None:
    opened = vd.open_source("tests/data/hdf5/robomimic_lift.hdf5", task="x")
    whole = opened.read(opened.episodes()[0])
    assert "observation.state" in whole.arrays
    rest = narrowed(opened, (SelectFeatures(keep=("action",)),)).read(opened.episodes()[0])
    gone = {note.removeprefix("left_out:") for note in rest.notes if note.startswith("left_out:")}
    assert set(whole.arrays) - set(rest.arrays) <= gone
    assert "observation.state" in gone


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"")
    with pytest.raises(DataError, match="empty, of 0 bytes"):
        read(path)


@pytest.mark.parametrize("kind", ["compound", "ragged", "rows"])
@pytest.mark.parametrize("odd", [1, 3, 7])
def test_all_odd_parts_are_named_at_once(tmp_path: Path, kind: str, odd: int) -> None:
    path = tmp_path / "odd.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        demo = data.create_group("demo_0")
        demo["actions"] = np.zeros((9, 7))
        obs = demo.create_group("obs")
        obs["robot0_eef_pos"] = np.zeros((9, 3))
        for n in range(odd):
            if kind == "compound":
                obs[f"odd_{n}"] = np.zeros(9, dtype=[("a", "f4"), ("b", "i4")])
            elif kind == "rows":
                obs[f"odd_{n}"] = np.zeros((4, 2))
            else:
                rows = obs.create_dataset(f"odd_{n}", (9,), dtype=h5py.vlen_dtype(np.uint8))
                for row in range(9):
                    rows[row] = np.arange(row + 1, dtype=np.uint8)
    source = vd.open_source(path, task="lift")
    with pytest.raises(DataError) as refused:
        source.read(source.episodes()[0])
    names = tuple(f"obs/odd_{n}" for n in range(odd))
    assert " ".join(f"--leave-out {name}" for name in names) in refused.value.message
    left = vd.open_source(path, task="lift", leave_out=names)
    assert set(left.read(left.episodes()[0]).arrays) >= {"action", "observation.robot0_eef_pos"}


def test_an_instruction_is_asked_for_only_where_it_matters(tmp_path: Path) -> None:
    path = tmp_path / "silent.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        demo = data.create_group("demo_0")
        demo["actions"] = np.linspace(0, 1, 63).reshape(9, 7)
        demo.create_group("obs")["robot0_eef_pos"] = np.zeros((9, 3))
    asking = vd.open_source(path)
    with pytest.raises(DataError, match=r"E211.*--task"):
        asking.read(asking.episodes()[0])
    silent = vd.open_source(path, allow_empty_instruction=True)
    episode = silent.read(silent.episodes()[0])
    assert (episode.task, len(episode)) == ("", 9)
    done = CliRunner().invoke(stats, [str(path), "--format", "lerobot"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)["action"]
    np.testing.assert_allclose(found["mean"], np.linspace(0, 1, 63).reshape(9, 7).mean(axis=0))


def test_a_camera_that_is_a_group_of_frames_is_left_out_as_one(tmp_path: Path) -> None:
    path = tmp_path / "frames.hdf5"
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}})
        demo = data.create_group("demo_0")
        demo["actions"] = np.zeros((60, 7))
        demo["obs/robot0_eef_pos"] = np.zeros((60, 3))
        demo["obs/pair"] = np.zeros((60, 2, 16, 16, 3), np.uint8)
        for frame in range(60):
            demo[f"obs/front/{frame:06d}"] = np.zeros((16, 16, 3), np.uint8)
    source = vd.open_source(path, task="lift")
    with pytest.raises(DataError, match=r"and 55 more; --leave-out obs/front leaves them out$"):
        source.read(source.episodes()[0])
    left = vd.open_source(path, task="lift", leave_out=("obs/front",))
    episode = left.read(left.episodes()[0])
    assert "pictures_kept_as_numbers:observation.pair" in episode.notes
