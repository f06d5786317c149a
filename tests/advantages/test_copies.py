"""Advantages in a copy of the dataset: as instructions, as rows of language, and as weights beside it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.language_sets import PERSISTENT, STEPS, annotated, holding
from tests.lerobot_sets import FILE, Here, numbers, vector, write
from tests.paths import ROOT
from tests.stock_lerobot import PYTHONS, ask, needed, said
from vla_data import advantages as adv
from vla_data.advantages.frame_table import FrameTable
from vla_data.errors import TargetExistsError, UsageError
from vla_data.media.video_settings import VideoSettings
from vla_data.statistics import vector_stats

SHARE = adv.Labels(share=0.4)
TEXTS = {True: "Advantage: positive", False: "Advantage: negative"}


def values(path: Path, table: FrameTable) -> Path:
    pick = np.random.default_rng(1)
    columns = {
        "episode_index": table.episode_index,
        "frame_index": table.episodes.frame_index(),
        "value": -pick.random(len(table)).astype(np.float32),
    }
    pq.write_table(pa.table(columns), path)
    return path


def made(root: Path, layout: str, **options: Any) -> tuple[np.ndarray[Any, Any], Path]:
    """The labels, and where they are."""
    table = FrameTable.read(root)
    given = values(root.parent / f"{root.name}.parquet", table)
    options = {"labels": SHARE, "unlabelled": "success", **options}
    done = adv.annotate(root, tag="t", values=given, layout=layout, **options)
    labels = done.annotation.positive
    return labels if labels is not None else done.annotation.advantages, done.copy or root


def rollouts(root: Path, **options: Any) -> Path:
    vd.run(vd.open_source(ROOT / "tests/data/rollouts"), [], vd.open_sink(root, **options), engine=Here())
    return root


@pytest.mark.parametrize(
    "options", [{}, {"version": "v2.1"}, {"video": VideoSettings(codec="h264")}], ids=["v3.0", "v2.1", "video"]
)
def test_instructions_carry_the_label_and_all_else_stays(options: dict[str, Any], tmp_path: Path) -> None:
    root = rollouts(tmp_path / "set", **options)
    labels, copy = made(root, "task-text")
    old, new = LerobotSource(root=root), LerobotSource(root=copy)
    at = 0
    every = []
    for ref, other in zip(old.episodes(), new.episodes(), strict=True):
        before, after = old.read(ref), new.read(other)
        own = labels[at : at + len(before)].tolist()
        at += len(before)
        tasks = after.arrays.get("task", np.full(len(after), after.task)).tolist()
        assert tasks == [f"{before.task}\n{TEXTS[label]}" for label in own]
        for name, array in before.arrays.items():
            np.testing.assert_array_equal(after.arrays[name], array)
        for name, frames in before.frames.items():
            np.testing.assert_array_equal(after.frames[name].pixels(3), frames.pixels(3))
        every.append(tasks)
    index = FrameTable.read(copy)
    if options.get("version") == "v2.1":
        lines = [json.loads(line) for line in (copy / "meta/episodes.jsonl").read_text().splitlines()]
        stats = [
            json.loads(line)["stats"] for line in (copy / "meta/episodes_stats.jsonl").read_text().splitlines()
        ]
        assert stats[1]["task_index"]["mean"] == vector_stats(part(index, 1))["mean"]
    else:
        (file,) = copy.glob("meta/episodes/*/*.parquet")
        lines = pq.read_table(file).to_pylist()
        assert lines[1]["stats/task_index/max"] == vector_stats(part(index, 1))["max"]
        whole = json.loads((copy / "meta/stats.json").read_text())
        assert whole["task_index"]["mean"] == pytest.approx(vector_stats(index.task)["mean"])
    assert [line["tasks"] for line in lines] == [list(dict.fromkeys(tasks)) for tasks in every]
    assert json.loads((copy / "meta/info.json").read_text())["total_tasks"] == len(index.tasks) == 3
    assert index.tasks[0] == "put carrot on plate"
    for video in root.glob("videos/**/*.mp4"):
        assert os.path.samefile(video, copy / video.relative_to(root))


def part(table: FrameTable, episode: int) -> np.ndarray[Any, Any]:
    return table.task[table.episodes.starts[episode] : table.episodes.ends[episode]]


def test_a_copy_of_a_copy_is_refused(tmp_path: Path) -> None:
    _, copy = made(rollouts(tmp_path / "set"), "task-text")
    with pytest.raises(UsageError, match="has an indicator already") as caught:
        made(copy, "task-text", copy_to=tmp_path / "more")
    assert caught.value.code == "E302"
    with pytest.raises(TargetExistsError):
        made(tmp_path / "set", "task-text", replace=True)


def test_labels_of_another_dataset_are_told(tmp_path: Path) -> None:
    root = rollouts(tmp_path / "set")
    found = adv.read(root, "task-text")
    assert not found.coverage.complete
    assert found.coverage.missing == len(FrameTable.read(root))


def at(rows: list[Any], time: float, style: str) -> Any:
    own = [row for row in rows if row["style"] == style and row["timestamp"] <= time + 1e-6]
    return max(own, key=lambda row: row["timestamp"])["content"] if own else None


def test_rows_of_language_hold_from_where_the_label_turns(tmp_path: Path) -> None:
    root = annotated(tmp_path / "in")
    labels, copy = made(root, "lerobot-recap")
    table = pq.read_table(copy / FILE).to_pylist()
    for n, row in enumerate(table):
        rows = row[PERSISTENT]
        assert at(rows, row["timestamp"], "advantage") == TEXTS[bool(labels[n])]
        assert [r for r in rows if r["style"] != "advantage"] == holding(row["episode_index"])
        assert row["is_terminal"] == (row["frame_index"] == STEPS - 1)
    returns = [row["mc_return"] for row in table]
    np.testing.assert_allclose(returns, [(t % STEPS - STEPS + 1) / 1600 for t in range(2 * STEPS)], rtol=1e-6)
    episode = LerobotSource(root=copy).read(LerobotSource(root=copy).episodes()[1])
    assert not episode.notes
    told = [json.loads(text)[-1]["content"] for text in episode.arrays[PERSISTENT].tolist()]
    assert set(told) & set(TEXTS.values())
    features = json.loads((copy / "meta/info.json").read_text())["features"]
    assert features[PERSISTENT]["dtype"] == "language"
    assert features["is_terminal"]["dtype"] == "bool"


def test_rows_of_language_are_made_where_there_are_none(tmp_path: Path) -> None:
    labels, copy = made(rollouts(tmp_path / "set"), "lerobot-recap")
    found = adv.read(copy, "lerobot-recap")
    assert found.coverage.complete
    np.testing.assert_array_equal(found.positive, labels)
    vd.run(LerobotSource(root=copy), (), vd.open_sink(tmp_path / "again"), engine=Here())
    np.testing.assert_array_equal(adv.read(tmp_path / "again", "lerobot-recap").positive, labels)
    with pytest.raises(UsageError, match=r"needs v3\.0"):
        made(rollouts(tmp_path / "old", version="v2.1"), "lerobot-recap")


def test_weights_are_labels_or_those_of_awr(tmp_path: Path) -> None:
    root = write(
        tmp_path / "set", [{"action": numbers(8, episode=e).tolist()} for e in range(3)], {"action": vector()}
    )
    labels, _ = made(root, "sample-weights")
    found = pq.read_table(root / "sample_weights.parquet")
    assert found["index"].to_pylist() == list(range(24))
    assert found["weight"].to_pylist() == labels.astype(float).tolist()
    advantages, _ = made(root, "sample-weights", labels=adv.Labels(), replace=True)
    weights = pq.read_table(root / "sample_weights.parquet")["weight"].to_numpy()
    want = np.minimum(np.exp(advantages / advantages.std()), 20)
    np.testing.assert_allclose(weights, want, rtol=1e-6)


@pytest.mark.parametrize("change", ["less", "twice", "other", "negative", "no column"])
def test_weights_that_do_not_fit_are_refused(change: str, tmp_path: Path) -> None:
    root = write(tmp_path / "set", [{"action": numbers(8).tolist()}], {"action": vector()})
    made(root, "sample-weights")
    found = pq.read_table(root / "sample_weights.parquet")
    index, weight = found["index"].to_numpy().copy(), found["weight"].to_numpy().copy()
    if change == "twice":
        index[1] = 0
    elif change == "other":
        index[7] = 99
    elif change == "negative":
        weight[2] = -1
    odd = pa.table({"index": index, ("w" if change == "no column" else "weight"): weight})
    pq.write_table(odd.slice(0, 7) if change == "less" else odd, root / "sample_weights.parquet")
    with pytest.raises(UsageError) as caught:
        adv.read(root, "sample-weights").coverage.require("sample_weights.parquet")
    assert caught.value.code == ("E301" if change == "other" else "E302")


STOCK = """
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
from lerobot.datasets.lerobot_dataset import LeRobotDataset
data = LeRobotDataset("local/set", root=sys.argv[1])
print("STOCK " + json.dumps([data[i]["task"] for i in range(len(data))]))
"""


@needed
def test_stock_lerobot_gives_the_instructions_with_their_labels(tmp_path: Path) -> None:
    labels, copy = made(rollouts(tmp_path / "set"), "task-text")
    seen = said(ask(PYTHONS[0], STOCK, str(copy)), "STOCK ")
    assert seen == [f"put carrot on plate\n{TEXTS[bool(x)]}" for x in labels]
