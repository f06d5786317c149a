"""What contradicts itself in LeRobot datasets: tasks, times, ranges of videos; what ``verify --deep`` finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from converters.hdf5.masks import write_masks
from converters.lerobot.check import LerobotAudit
from converters.lerobot.source import LerobotSource
from tests.converters.lerobot.test_features import EveryFeature
from tests.paths import SHARED, TESTS
from tests.stock_lerobot import PYTHONS, judged, needed
from vla_data.errors import DataError, UsageError
from vla_data.media import packets, video
from vla_data.media.video_settings import VideoSettings
from vla_data.selection.merged import Member, MergedSource
from vla_data.selection.subset import Selection

ROLLOUTS = TESTS / "data/rollouts"
GROOT = SHARED / "lerobot_v20_groot"
CAMERA = "observation.images.primary"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
ANNOTATION = "annotation.human.validity"
TASK = "put carrot on plate"
TABLE = ["valid", TASK, "nobody does this"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults") / "set"
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root, video=VideoSettings(codec="h264")), workers=1)
    return root


@pytest.fixture
def copy(videos: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(videos, tmp_path / "copy"))


def change(path: Path, **columns: Callable[[np.ndarray[Any, Any]], Any]) -> None:
    table = pq.read_table(path)
    for name, new in columns.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array(new(np.arange(len(table)))))
            continue
        at = table.column_names.index(name)
        values = table[name].to_numpy()
        table = table.set_column(at, name, pa.array(new(values)).cast(table.schema.field(name).type))
    pq.write_table(table, path)


def tasked(root: Path, table: list[str]) -> Path:
    """The dataset with this task table and an annotation column that refers to "valid"."""
    pq.write_table(pa.table({"task_index": list(range(len(table))), "task": table}), root / "meta/tasks.parquet")
    number, valid = table.index(TASK), table.index("valid")
    change(root / DATA, task_index=lambda old: old * 0 + number, **{ANNOTATION: lambda rows: rows * 0 + valid})
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][ANNOTATION] = {"dtype": "int64", "shape": [1], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/modality.json").write_text('{"annotation": {"human.validity": {}}}')
    return root


def outcome(root: Path, number: int = 0) -> str:
    source = LerobotSource(root=root)
    try:
        source.read(source.episodes()[number])
    except DataError as error:
        return error.code
    return ""


def damages(root: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    schema = vd.Schema.from_text((root / "meta/vla_data/schema.json").read_text())
    LerobotAudit(root, vd.open_ledger(root), schema, lambda where, what, *_: found.append((where, what))).run()
    return found


# -- tasks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions", [(0, 1, 2), (1,)])
@pytest.mark.parametrize("workers", [1, 2])
def test_task_table_and_its_numbers_are_kept(
    copy: Path, tmp_path: Path, positions: tuple[int, ...], workers: int
) -> None:
    source = Selection(LerobotSource(root=tasked(copy, TABLE)), positions)
    out = tmp_path / "out"
    vd.run(source, (), vd.open_sink(out, video=VideoSettings(codec="h264")), workers=workers)
    assert pq.read_table(out / "meta/tasks.parquet").to_pydict() == {"task_index": [0, 1, 2], "task": TABLE}
    rows = pq.read_table(out / DATA, columns=["task_index", ANNOTATION])
    assert {name: set(rows[name].to_pylist()) for name in rows.column_names} == {
        "task_index": {1},
        ANNOTATION: {0},
    }
    assert json.loads((out / "meta/info.json").read_text())["total_tasks"] == len(TABLE)
    assert (out / "meta/modality.json").read_bytes() == (copy / "meta/modality.json").read_bytes()
    assert damages(out) == []


def test_task_of_the_kept_table_that_is_changed_is_found(copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    vd.run(LerobotSource(root=tasked(copy, TABLE)), (), vd.open_sink(out), workers=1)
    tasks = out / "meta/tasks.parquet"
    pq.write_table(pa.table({"task_index": [0, 1, 2], "task": ["invalid", *TABLE[1:]]}), tasks)
    assert [where for where, _ in damages(out)] == ["meta/tasks.parquet"]


def test_columns_of_different_task_tables_are_not_merged(videos: Path, tmp_path: Path) -> None:
    members = []
    for name, table in (("a", TABLE), ("b", TABLE[::-1])):
        root = tasked(Path(shutil.copytree(videos, tmp_path / name)), table)
        members.append(Member(name, LerobotSource(root=root)))
    with pytest.raises(UsageError, match=f"{ANNOTATION} hold numbers of task tables") as caught:
        vd.run(MergedSource(tuple(members)), (), vd.open_sink(tmp_path / "out"), workers=1)
    assert caught.value.code == "E005"


def test_columns_of_one_task_table_are_merged(videos: Path, tmp_path: Path) -> None:
    members = []
    for name in "ab":
        root = tasked(Path(shutil.copytree(videos, tmp_path / name)), TABLE)
        members.append(Member(name, LerobotSource(root=root)))
    out = tmp_path / "out"
    vd.run(MergedSource(tuple(members)), (), vd.open_sink(out), workers=1)
    assert pq.read_table(out / "meta/tasks.parquet")["task"].to_pylist() == TABLE


@pytest.mark.skipif(not GROOT.exists(), reason="the shared episodes are not there")
def test_gr00t_annotations_keep_their_texts(tmp_path: Path) -> None:
    source = LerobotSource(root=GROOT)
    out = tmp_path / "out"
    vd.run(Selection(source, (4,)), (), vd.open_sink(out), workers=1)
    lines = [json.loads(line) for line in (GROOT / "meta/tasks.jsonl").read_text().splitlines()]
    assert pq.read_table(out / "meta/tasks.parquet")["task"].to_pylist() == [line["task"] for line in lines]
    episode = LerobotSource(root=out).read(LerobotSource(root=out).episodes()[0])
    assert {lines[i]["task"] for i in episode.arrays["annotation.human.action.task_description"]} == {episode.task}
    first = source.read(source.episodes()[4])
    assert first.notes[1:] == ("time_starts_at:0.05", "video_by_position:observation.images.ego_view")


@pytest.mark.parametrize("values", [["WRONG"], [0.5]])
def test_column_named_task_is_no_instruction(copy: Path, values: list[Any]) -> None:
    change(copy / DATA, task=lambda rows: values * len(rows))
    episode = LerobotSource(root=copy).read(LerobotSource(root=copy).episodes()[0])
    assert episode.task == TASK
    assert "task" not in episode.arrays
    assert episode.notes == ("task_column_left_out:task",)


def test_text_with_nul_is_refused(copy: Path) -> None:
    change(copy / DATA, note=lambda rows: ["a\0\0"] * len(rows))
    assert outcome(copy) == "E212"


# -- time and videos ------------------------------------------------------------------------------------


def test_images_of_an_episode_that_begins_later_are_kept_with_a_note(tmp_path: Path) -> None:
    root = tmp_path / "set"
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root), workers=1)
    change(root / DATA, timestamp=lambda old: old + 0.6)
    assert LerobotSource(root=root).read(LerobotSource(root=root).episodes()[0]).notes == ("time_starts_at:0.6",)


def test_frame_of_a_row_is_the_one_that_its_time_names(copy: Path) -> None:
    """The rows lose their first two steps and the clip does not: their times still name the right frames."""
    table = pq.read_table(copy / DATA)
    rows = table.filter(pa.compute.greater_equal(table["frame_index"], 2))
    frame = rows.column_names.index("frame_index")
    numbers = pa.compute.subtract(rows["frame_index"], 2)
    pq.write_table(rows.set_column(frame, "frame_index", numbers), copy / DATA)
    change(copy / EPISODES, length=lambda old: old - 2)
    source = LerobotSource(root=copy)
    at = 0
    for ref, length in zip(source.episodes(), pq.read_table(copy / EPISODES)["length"].to_pylist(), strict=True):
        episode = source.read(ref)
        assert episode.notes == ("time_starts_at:0.4",)
        clip = video.Clip(copy / VIDEO, at + 2)
        for t in (0, length - 1):
            np.testing.assert_array_equal(episode.frames[CAMERA].pixels(t), clip.frame(t))
        at += length + 2


@pytest.mark.parametrize(
    ("end", "new", "code"),
    [
        ("timestamp", lambda old: old + 0.6, "E221"),  # frames of the next episode
        ("timestamp", lambda old: old + 0.01, "E221"),  # between frames
        ("to", lambda old: old - 0.4, "E204"),
        ("to", lambda old: old + 0.4, "E204"),
        ("both", lambda old: old + 0.08, "E221"),
        ("both", lambda old: old + 1000, "E221"),  # beyond the file
        ("from", lambda old: old * 0, "E204"),
    ],
)
def test_range_that_contradicts_the_rows_is_refused(copy: Path, end: str, new: Any, code: str) -> None:
    names = [f"videos/{CAMERA}/{key}_timestamp" for key in ("from", "to") if end in (key, "both")]
    if end == "timestamp":
        change(copy / DATA, timestamp=new)
    else:
        change(copy / EPISODES, **dict.fromkeys(names, new))
    assert outcome(copy, 1) == code


def test_clip_of_two_episodes_is_refused_for_both(copy: Path) -> None:
    lengths = pq.read_table(copy / EPISODES)["length"].to_pylist()
    starts, stops = [0.0, 0.0, lengths[0] / 5], [n / 5 for n in (lengths[0], lengths[1], lengths[0] + lengths[2])]
    change(
        copy / EPISODES,
        **{f"videos/{CAMERA}/from_timestamp": lambda _: starts, f"videos/{CAMERA}/to_timestamp": lambda _: stops},
    )
    assert [outcome(copy, n) for n in (0, 1)] == ["E204", "E204"]


# -- verify --deep --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["from_timestamp", "to_timestamp", "chunk_index", "file_index"])
def test_wrong_place_of_a_video_is_found(copy: Path, key: str) -> None:
    assert damages(copy) == []
    change(copy / EPISODES, **{f"videos/{CAMERA}/{key}": lambda old: old + np.asarray([0, 1, 0])})
    ((where, what),) = damages(copy)
    assert where == EPISODES
    assert CAMERA in what


@pytest.mark.parametrize(
    "new",
    [
        {"data_path": "x"},
        {"video_path": None},
        {"chunks_size": 1},
        {"robot_type": "other"},
        {"data_files_size_in_mb": 1},
        {"splits": {}},
        {"features.timestamp.dtype": "int64"},
        {"features.extra": {"dtype": "int64", "shape": [1], "names": None}},
        {f"features.{CAMERA}.info": {}},
    ],
)
def test_wrong_info_is_found_and_blames_nothing_else(copy: Path, new: dict[str, Any]) -> None:
    path = copy / "meta/info.json"
    info = json.loads(path.read_text())
    for key, value in new.items():
        if key.startswith("features."):
            name = key.removeprefix("features.")
            place = info["features"]
            if name not in ("extra",):
                name, _, last = name.rpartition(".")
                place, name = place[name], last
            place[name] = value
        else:
            info[key] = value
    path.write_text(json.dumps(info))
    assert {where for where, _ in damages(copy)} == {"meta/info.json"}


@pytest.mark.parametrize("text", ["{}x", "", "[]", '{"features": 3}'])
def test_info_that_can_not_be_read_blames_nothing_else(copy: Path, text: str) -> None:
    (copy / "meta/info.json").write_text(text)
    assert {where for where, _ in damages(copy)} == {"meta/info.json"}


def test_video_with_other_frames_is_found(copy: Path, tmp_path: Path) -> None:
    count = len(packets.packet_digests(str(copy / VIDEO)))
    grey = (np.full((120, 160, 3), t, np.uint8) for t in range(count))
    (copy / VIDEO).write_bytes(video.encode(grey, VideoSettings(codec="h264"), fps=5))
    assert {what for _, what in damages(copy)} == {"the content is not that of the ledger's digest"}


# -- splits and masks -----------------------------------------------------------------------------------


@needed
def test_stock_loads_splits_with_gaps(tmp_path: Path) -> None:
    root = tmp_path / "set"
    vd.run(EveryFeature(splits=("val", "train", "val")), (), vd.open_sink(root, images="png"), workers=1)
    assert json.loads((root / "meta/info.json").read_text())["splits"] == {"train": "1:2"}
    for python in PYTHONS:
        seen = judged(python, root, str(tmp_path / "columns.npz"), judge="lerobot_values")
        assert seen["splits"] == {"train": "1:2"}


def test_masks_come_back_and_no_split_is_made_up(tmp_path: Path) -> None:
    hdf5 = tmp_path / "demos.hdf5"
    with h5py.File(TESTS / "data/hdf5/robomimic_lift.hdf5") as file:
        demo, *others = sorted(file["data"])
    masks = {"valid": [demo], "better": [demo, *others]}
    write_masks(TESTS / "data/hdf5/robomimic_lift.hdf5", masks, hdf5, replace=True)
    first = vd.open_source(hdf5, task="lift")
    want = [first.read(ref).meta for ref in first.episodes()]
    assert "better" in want[0]["masks"]
    vd.run(first, (), vd.open_sink(tmp_path / "out"), workers=1)
    again = LerobotSource(root=tmp_path / "out")
    for meta, ref in zip(want, again.episodes(), strict=True):
        found = again.read(ref).meta
        for key in ("split", "masks", "mask_names"):
            assert found.get(key) == meta.get(key)


def test_only_the_episodes_with_a_split_have_one(tmp_path: Path) -> None:
    splits = ("train", None, "train")
    vd.run(EveryFeature(splits=splits), (), vd.open_sink(tmp_path / "out"), workers=1)
    again = LerobotSource(root=tmp_path / "out")
    assert tuple(again.read(ref).meta.get("split") for ref in again.episodes()) == splits
    assert json.loads((tmp_path / "out/meta/info.json").read_text())["splits"] == {}
