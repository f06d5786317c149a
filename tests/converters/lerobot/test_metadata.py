"""Metadata in the forms that recorders, mergers and converters leave behind: right values, or what to do."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from converters.lerobot.rows import check_names
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import EPISODES, FILE, numbers, vector, write
from vla_data.errors import DataError, UsageError
from vla_data.safety.text import show
from vla_data.verification.check import verify

ACTIONS = [{"action": pa.array(numbers(episode=n).tolist(), pa.list_(pa.float32()))} for n in range(3)]
FEATURES = {"action": vector(3)}
LISTS = {"list": pa.list_, "large": pa.large_list, "fixed": lambda kind: pa.list_(kind, 1)}


def actions(root: Path, **options: Any) -> list[Any]:
    source = LerobotSource(root=root, **options)
    return [source.read(ref).arrays["action"].tolist() for ref in source.episodes()]


WANT = [numbers(episode=n).tolist() for n in range(3)]


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_positions_that_are_lists_of_one_number_are_the_numbers(tmp_path: Path, kind: str, version: str) -> None:
    root = write(tmp_path / "in", ACTIONS, FEATURES, version=version)
    for file in (root / "data").rglob("*.parquet"):
        table = pq.read_table(file)
        for at, field in enumerate(table.schema):
            if field.name != "action":
                column = pa.array([[v] for v in table[field.name].to_pylist()], LISTS[kind](field.type))
                table = table.set_column(at, field.name, column)
        pq.write_table(table, file)
    assert actions(root) == WANT
    source = LerobotSource(root=root)
    found: Any = dict(source.columns(source.episodes(), None))
    assert [found[ref.id]["action"].tolist() for ref in source.episodes()] == WANT


def test_episodes_that_are_listed_again_are_one_and_others_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "in", ACTIONS, FEATURES, version="v2.1")
    path = root / "meta/episodes.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1], ""]))
    assert actions(root) == WANT
    path.write_text("\n".join([*lines, json.dumps({**json.loads(lines[1]), "length": 3}), ""]))
    with pytest.raises(
        UsageError, match=r"E004 .*episodes\.jsonl lists the episode_index 1 twice.*remove the row"
    ):
        actions(root)


def test_lengths_follow_from_where_the_rows_are(tmp_path: Path) -> None:
    def without(*names: str) -> Any:
        return lambda rows: [{k: v for k, v in row.items() if k not in names} for row in rows]

    assert actions(write(tmp_path / "in", ACTIONS, FEATURES, rows=without("length"))) == WANT
    with pytest.raises(UsageError, match="meta/episodes has no length"):
        actions(write(tmp_path / "out", ACTIONS, FEATURES, rows=without("length", "dataset_from_index")))


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_without_a_table_of_tasks_one_is_given(tmp_path: Path, version: str) -> None:
    root = write(tmp_path / "in", ACTIONS, FEATURES, version=version)
    name, other = ("meta/tasks.parquet", "meta/tasks.jsonl")[:: 1 if version == "v3.0" else -1]
    (root / name).unlink()
    with pytest.raises(UsageError, match=rf"E003 .*{name}, in which {version} .*is not there\. --task TEXT"):
        actions(root)
    assert actions(root, task="fold") == WANT
    (root / other).write_bytes(b"")
    with pytest.raises(UsageError, match=rf"is not there\. {other} is, as if a conversion of it had not finished"):
        actions(root)


def test_a_recording_without_any_episode_is_called_so(tmp_path: Path) -> None:
    root = write(tmp_path / "in", ACTIONS, FEATURES, version="v2.1", info={"total_episodes": 0})
    for name in ("tasks", "episodes"):
        (root / f"meta/{name}.jsonl").unlink()
    with pytest.raises(UsageError, match="has no episodes: its recording ended before one was saved"):
        actions(root)


def test_a_file_that_is_missing_costs_its_episode_and_names_the_way_out(tmp_path: Path) -> None:
    features = {**FEATURES, "observation.images.top": {"dtype": "video", "shape": [8, 12, 3], "names": None}}
    videos = {"observation.images.top": [b"", b"", b""]}
    root = write(tmp_path / "in", ACTIONS, features, version="v2.1", videos=videos)
    (root / "videos/chunk-000/observation.images.top/episode_000001.mp4").unlink()
    source = LerobotSource(root=root)
    with pytest.raises(DataError, match=r"E133 .*--drop observation\.images\.top leaves it out"):
        source.fingerprint(source.episodes()[1])


def test_numbers_in_rows_and_in_lists_are_told_apart(tmp_path: Path) -> None:
    """A list of two is no position, in whichever row."""
    root = write(tmp_path / "in", ACTIONS[:1], FEATURES)
    table = pq.read_table(root / FILE)
    at = table.column_names.index("episode_index")
    odd = pa.array([[0], [0, 1], [0], [0]], pa.list_(pa.int64()))
    pq.write_table(table.set_column(at, "episode_index", odd), root / FILE)
    assert (root / EPISODES).is_file()
    with pytest.raises(DataError):
        actions(root)
    assert np.shape(WANT) == (3, 4, 3)


def test_half_a_conversion_is_called_so(tmp_path: Path) -> None:
    root = write(tmp_path / "in", ACTIONS, FEATURES, version="v2.1", info={"codebase_version": "v3.0"})
    with pytest.raises(UsageError, match=r"E122 .*another version than codebase_version, as if a conversion"):
        actions(root)
    root = write(tmp_path / "out", ACTIONS, FEATURES, info={"codebase_version": None})
    with pytest.raises(UsageError, match=r"E002 .*info\.json has no codebase_version"):
        actions(root)


@pytest.mark.parametrize(
    "time", [[0.0] * 4, [0.0, 0.1, 0.5, 0.6], [0.0, 0.1, float("nan"), 0.3], [0.0, 0.2, 0.4, 0.6]]
)
def test_times_that_are_no_clocks_can_be_left_out(tmp_path: Path, time: list[float]) -> None:
    episodes = [{**columns, "timestamp": pa.array(time, pa.float32())} for columns in ACTIONS]
    root = write(tmp_path / "in", episodes, FEATURES)
    with pytest.raises(DataError, match=r"E221 .*--leave-out timestamp takes rows as one step apart each"):
        actions(root)
    assert actions(root, leave_out=("timestamp",)) == WANT


@pytest.mark.parametrize("name", ["observation.Gripper Pos", "observation.naïve", "a:b", "x y z"])
def test_a_column_may_have_any_name_without_a_slash(tmp_path: Path, name: str) -> None:
    """A name becomes a path where it is a camera's."""
    episodes = [{**columns, name: columns["action"]} for columns in ACTIONS]
    source = LerobotSource(root=write(tmp_path / "in", episodes, {**FEATURES, name: vector(3)}))
    vd.run(source, (), vd.open_sink(tmp_path / "out"), workers=1)
    table = pq.read_table(tmp_path / "out" / FILE)
    assert table[name].to_pylist() == table["action"].to_pylist() == [row for rows in WANT for row in rows]
    assert verify(tmp_path / "out", deep=True).damages == ()


@pytest.mark.parametrize("name", ["observation/x", " x", "x ", "a\nb"])
def test_a_name_that_no_column_has_is_refused_as_it_is_typed(tmp_path: Path, name: str) -> None:
    schema = vd.Schema(features={name: vd.Feature(dtype="float32", shape=(3,))}, fps=10)
    arrays = {name: numbers()}
    whole = vd.Episode(id="a", arrays=arrays, frames={}, task="x", index=np.arange(4))
    with pytest.raises(DataError, match=r"E232 .*can't have a feature named .*; --rename ") as caught:
        check_names(whole, schema, arrays)
    words = shlex.split(caught.value.message.partition("; ")[2])
    assert words[0] == "--rename"
    assert words[-2:] == ["--drop", show(name)]
