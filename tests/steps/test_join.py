"""Parts of an action become one vector, in the order that the user gives, with every number as it was."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from converters.rlds import tfds_json
from tests.rlds_toys import numbers, source, write
from vla_data.cli.convert import command as convert
from vla_data.core import Episode, Feature, Schema
from vla_data.core.curate import curate, describe
from vla_data.errors import DataError, UsageError
from vla_data.steps import Join

PARTS = {
    "action.place": np.arange(12, dtype=np.float32).reshape(4, 3),
    "action.turn": np.arange(8, dtype=np.float64).reshape(4, 2) / 7,
    "action.grip": np.asarray([True, False, True, True]),
    "action.mode": np.asarray([3, 2, 1, 0], dtype=np.int32),
}


def episode() -> Episode:
    return Episode(id="a", arrays={**PARTS, "x": np.zeros(4)}, frames={}, task="t", index=np.arange(4))


def schema() -> Schema:
    found = {name: Feature(dtype=str(a.dtype), shape=a.shape[1:] or (1,)) for name, a in episode().arrays.items()}
    return Schema(features=found, fps=5)


@pytest.mark.parametrize("parts", [p for n in (2, 3, 4) for p in itertools.permutations(PARTS, n)])
def test_numbers_stand_in_the_order_of_the_parts_and_keep_their_values(parts: tuple[str, ...]) -> None:
    step = Join(name="action", parts=parts)
    result = curate(episode(), [step], schema()).episode  # which compares the result with what the step describes
    assert result is not None
    assert result.arrays.keys() == {*PARTS, "x", "action"} - {*parts}
    start = 0
    for part in parts:
        want = PARTS[part].reshape(4, -1)
        found = result.arrays["action"][:, start : start + want.shape[1]]
        assert np.array_equal(found, want), part
        start += want.shape[1]
    assert start == result.arrays["action"].shape[1]


def test_names_say_of_which_part_a_number_is() -> None:
    described = describe(schema(), [Join(name="action", parts=("action.turn", "action.grip"))])
    assert described.features["action"].names == ("turn_0", "turn_1", "grip")


def test_meanings_of_parts_that_agree_are_one_and_others_are_none() -> None:
    place = {"layout": {"translation": [0, 1, 2]}, "kind": "delta", "translation_unit": "m"}
    grip = {"layout": {"gripper": [0]}, "kind": "delta", "translation_unit": "m"}
    for second, want in ((grip, {"translation": [0, 1, 2], "gripper": [3]}), ({**grip, "kind": "absolute"}, None)):
        features = dict(schema().features)
        features["action.place"] = Feature(dtype="float32", shape=(3,), convention=place)
        features["action.grip"] = Feature(dtype="bool", shape=(1,), convention=second)
        step = Join(name="action", parts=("action.place", "action.grip"))
        found = describe(Schema(features=features, fps=5), [step]).features["action"].convention
        assert found.get("layout") == want


def test_what_can_not_be_joined_is_refused() -> None:
    step = Join(name="action", parts=("action.place", "action.nothing"))
    with pytest.raises(DataError, match=r"no feature action.nothing to join; there is action.grip") as caught:
        step.apply(episode())
    assert caught.value.code == "E206"
    with pytest.raises(UsageError, match="no feature"):
        step.describe(schema())
    with pytest.raises(DataError, match="there already"):
        Join(name="x", parts=("action.place", "action.turn")).apply(episode())
    for parts in (("action.place",), ("action.place", "action.place")):
        with pytest.raises(ValueError, match="at least two parts"):
            Join(name="action", parts=parts)


RT1 = {
    "action": {
        "world_vector": tfds_json.tensor((3,), "float32"),
        "rotation_delta": tfds_json.tensor((3,), "float32"),
        "gripper_closedness_action": tfds_json.tensor((1,), "float32"),
        "terminate_episode": tfds_json.tensor((3,), "int32"),
    }
}
VALUES = {
    "action/world_vector": numbers(3),
    "action/rotation_delta": numbers(3, 40),
    "action/gripper_closedness_action": numbers(1, 60),
    "action/terminate_episode": numbers(3).astype(np.int64),
}
ORDER = ("world_vector", "rotation_delta", "gripper_closedness_action")


def run(folder: Path, out: Path, *words: str) -> str:
    done = CliRunner().invoke(convert, [str(folder), str(out), "--fps", "3", "--task", "pick", "--json", *words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("target", ["lerobot", "rlds", "robomimic"])
def test_an_action_dictionary_is_joined_from_the_command_line(tmp_path: Path, target: str) -> None:
    import vla_data as vd

    folder = write(tmp_path / "in", RT1, VALUES)
    joined = "action=" + ",".join(f"action.{name}" for name in ORDER)
    run(folder, tmp_path / "out", "--to", target, "--join", joined)
    found = vd.open_source(tmp_path / "out")
    arrays = found.read(found.episodes()[0]).arrays
    want = np.concatenate([VALUES[f"action/{name}"] for name in ORDER], axis=1)
    assert np.array_equal(arrays["action"], want)
    left = {name for name in arrays if name.startswith("action") and name != "action"}
    assert {name.split(".")[-1] for name in left} == {"terminate_episode"}


def test_a_result_without_an_action_names_the_way_to_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", RT1, VALUES)
    said = json.loads(run(folder, tmp_path / "out"))["warnings"]
    assert any("--join action=PART" in line and "action.world_vector" in line for line in said)
    columns = pq.read_table(tmp_path / "out/data/chunk-000/file-000.parquet").column_names
    assert "action" not in columns
    done = CliRunner().invoke(
        convert, [str(folder), str(tmp_path / "r"), "--fps", "3", "--task", "p", "--to", "robomimic"]
    )
    assert "--join action=PART" in str(done.exception)


def test_a_mapping_may_join(tmp_path: Path) -> None:
    from vla_data.selection.mapping import merged

    folder = write(tmp_path / "in", RT1, VALUES)
    table = tmp_path / "m.toml"
    table.write_text(
        '[[source]]\nopen = { fps = 5, task = "x" }\n'
        'join = { action = ["action.rotation_delta", "action.world_vector"] }\n'
    )
    both = merged([str(folder)], table)
    ref = both.episodes()[0]
    result = curate(both.read(ref), both.steps_of(ref)).episode
    assert result is not None
    assert np.array_equal(result.arrays["action"][:, 3:], VALUES["action/world_vector"])
    assert source(folder).read(source(folder).episodes()[0]).arrays.keys() >= {"action.world_vector"}
