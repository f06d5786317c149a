"""LeRobot datasets as people have them: what lerobot's own reader reads is read, and what is left out is said."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.lerobot_sets import (
    DATA,
    EPISODES,
    FILE,
    TOP,
    Here,
    camera,
    change_table,
    numbers,
    picture,
    png,
    records,
    vector,
    write,
)
from vla_data.core.base import narrowed
from vla_data.core.curate import curate
from vla_data.core.notes import told
from vla_data.errors import DataError, UsageError
from vla_data.steps import CutAfterSuccess, RequireSuccess
from vla_data.steps.features import SelectFeatures
from vla_data.verification.check import verify

EPISODE: Final = [{"action": numbers(episode=e).tolist()} for e in range(3)]
FEATURES: Final = {"action": vector()}


def made(root: Path, **options: Any) -> Path:
    return write(root, options.pop("episodes", EPISODE), options.pop("features", FEATURES), **options)


def episodes(root: Path, **options: Any) -> list[vd.Episode]:
    source = LerobotSource(root=root, **options)
    return [source.read(ref) for ref in source.episodes()]


def are_right(found: list[vd.Episode]) -> bool:
    return [e.arrays["action"].tolist() for e in found] == [e["action"] for e in EPISODE]


def refusals(root: Path, **options: Any) -> list[str]:
    """The code and message of each episode that is refused."""
    source, out = LerobotSource(root=root, **options), []
    for ref in source.episodes():
        with pytest.raises(DataError) as caught:
            source.read(ref)
        out.append(str(caught.value))
    return out


def converted(root: Path, out: Path, *steps: Any, **options: Any) -> vd.Report:
    return vd.run(LerobotSource(root=root, **options), steps, vd.open_sink(out, images="png"), engine=Here())


# -- numbers of the metadata in other types -----------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint16(), pa.int32(), pa.uint64(), pa.float32(), pa.float64()])
def test_metadata_is_read_from_every_type_of_numbers(kind: pa.DataType, tmp_path: Path) -> None:
    root = made(tmp_path / "in")

    def cast(table: pa.Table) -> pa.Table:
        fields = [pa.field(f.name, kind if pa.types.is_integer(f.type) else f.type) for f in table.schema]
        return table.cast(pa.schema(fields))

    change_table(root / EPISODES, cast)
    change_table(root / "meta/tasks.parquet", cast)
    assert are_right(episodes(root))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("episode_index", pa.int32()),
        ("episode_index", pa.float64()),
        ("frame_index", pa.uint8()),
        ("frame_index", pa.float32()),
        ("task_index", pa.int8()),
        ("timestamp", pa.float64()),
    ],
)
def test_index_columns_are_read_from_every_type_of_numbers(column: str, kind: pa.DataType, tmp_path: Path) -> None:
    root = made(tmp_path / "in")

    def cast(table: pa.Table) -> pa.Table:
        cells = table[column].cast(kind)
        return table.set_column(table.column_names.index(column), column, cells)

    change_table(root / FILE, cast)
    assert are_right(episodes(root))
    change_table(
        root / FILE, lambda t: t.set_column(0, t.column_names[0], pa.array([[x] for x in t[0].to_pylist()]))
    )
    assert are_right(episodes(root))  # the first one as lists of one


@pytest.mark.parametrize("value", [0.5, None, "0", True])
def test_metadata_that_is_no_whole_number_is_refused(value: Any, tmp_path: Path) -> None:
    root = made(tmp_path / "in", rows=lambda rows: [{**row, "length": value} for row in rows])
    with pytest.raises(UsageError) as caught:
        LerobotSource(root=root).episodes()
    assert caught.value.code == "E141"


# -- rows that are elsewhere --------------------------------------------------------------------------------


def test_rows_are_found_where_the_file_index_is_one_file_off(tmp_path: Path) -> None:
    root = made(tmp_path / "in")
    table = pq.read_table(root / FILE)
    pq.write_table(table.slice(0, 4), root / FILE)
    pq.write_table(table.slice(4), root / "data/chunk-000/file-001.parquet")
    found = episodes(root)
    assert are_right(found)
    assert [bool(e.notes) for e in found] == [False, True, True]
    assert any("rows were not in" in line for line in told(e.notes for e in found))
    (fingerprints,) = {tuple(map(LerobotSource(root=root).fingerprint, LerobotSource(root=root).episodes()))}
    pq.write_table(table.slice(4), root / "data/chunk-000/file-001.parquet", compression="gzip")
    again = [*map(LerobotSource(root=root).fingerprint, LerobotSource(root=root).episodes())]
    assert [a == b for a, b in zip(fingerprints, again, strict=True)] == [True, False, False]


def test_rows_that_two_other_files_have_are_nobodys(tmp_path: Path) -> None:
    root = made(tmp_path / "in")
    os.rename(root / FILE, root / "data/chunk-000/file-001.parquet")
    shutil.copy(root / "data/chunk-000/file-001.parquet", root / "data/chunk-000/file-002.parquet")
    assert {text[:4] for text in refusals(root)} == {"E204"}


def test_episodes_in_mixed_row_groups_are_found_without_statistics(tmp_path: Path) -> None:
    root = made(tmp_path / "in")
    table = pq.read_table(root / FILE)
    pq.write_table(table, root / FILE, row_group_size=5, write_statistics=False)
    assert are_right(episodes(root))
    table = table.take([11, 0, 4, 1, 5, 2, 6, 3, 7, 8, 9, 10])  # not one after the other
    pq.write_table(table.take(pa.array([*range(1, 12), 0])), root / FILE)
    assert are_right(episodes(root))


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_data_files_that_the_metadata_does_not_list_are_said(version: str, tmp_path: Path) -> None:
    root = made(tmp_path / "in", version=version)
    if version == "v3.0":
        change_table(root / EPISODES, lambda table: table.slice(0, 2))
        table = pq.read_table(root / FILE)
        pq.write_table(table.slice(0, 8), root / FILE)
        pq.write_table(table.slice(8), root / "data/chunk-000/file-001.parquet")
    else:
        lines = (root / "meta/episodes.jsonl").read_text().splitlines(keepends=True)
        (root / "meta/episodes.jsonl").write_text("".join(lines[:2]))
    assert all("data_files_of_no_episode:1" in e.notes for e in episodes(root))
    assert any("1 data files are left out" in line for line in told(e.notes for e in episodes(root)))


def test_frames_may_be_counted_from_another_number(tmp_path: Path) -> None:
    shifted = [{**e, "frame_index": [7, 8, 9, 10]} for e in EPISODE]
    root = made(tmp_path / "in", episodes=shifted)
    found = episodes(root)
    assert are_right(found)
    assert {e.notes for e in found} == {("frame_index_starts_at:7",)}
    (_, columns), *_ = LerobotSource(root=root).columns(LerobotSource(root=root).episodes(), ["action"])
    assert not isinstance(columns, DataError)


@pytest.mark.parametrize("index", [[0, 1, 1, 2], [3, 2, 1, 0], [0, 2, 4, 6]])
def test_frames_that_are_not_counted_are_refused(index: list[int], tmp_path: Path) -> None:
    root = made(tmp_path / "in", episodes=[{**e, "frame_index": index} for e in EPISODE])
    assert {text[:4] for text in refusals(root)} == {"E221"}


# -- links --------------------------------------------------------------------------------------------------


def as_cache(root: Path, hub: Path) -> Path:
    """The dataset as huggingface_hub's cache has it: a snapshot of links to blobs."""
    repository = hub / "datasets--me--set"
    (repository / "blobs").mkdir(parents=True)
    snapshot = repository / "snapshots/0123abc"
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copy(file, blob)
        link = snapshot / file.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_snapshot_of_the_hub_is_read_and_its_blobs_alone_are_followed(tmp_path: Path) -> None:
    columns = [{**e, TOP: records([png(picture(t)) for t in range(4)])} for e in EPISODE]
    root = made(tmp_path / "in", episodes=columns, features={**FEATURES, TOP: camera()})
    (root / "LICENSE").write_text("mine")
    snapshot = as_cache(root, tmp_path / "hub")
    assert are_right(episodes(snapshot))
    report = converted(snapshot, tmp_path / "out")
    assert report.counts["published_episodes"] == 3
    assert (tmp_path / "out/LICENSE").read_text() == "mine"
    link = snapshot / FILE
    for evil in ("elsewhere/blobs", "hub/datasets--me--set/blobs/below", "hub/datasets--me--set/other"):
        (tmp_path / evil).mkdir(parents=True)
        blob = tmp_path / evil / Path(os.readlink(link)).name
        shutil.copy(root / FILE, blob)
        link.unlink()
        link.symlink_to(blob)
        assert {text[:4] for text in refusals(snapshot)} == {"E131"}
        assert "cp -rL" in refusals(snapshot)[0]


def test_a_dataset_of_ours_in_the_cache_of_the_hub_is_whole(tmp_path: Path) -> None:
    converted(made(tmp_path / "in"), tmp_path / "out")
    assert not verify(as_cache(tmp_path / "out", tmp_path / "hub")).damages


@pytest.mark.parametrize("folder", ["data", "data/chunk-000", "meta/episodes", "meta/episodes/chunk-000"])
def test_linked_folders_are_read_inside_and_refused_outside(folder: str, tmp_path: Path) -> None:
    root = made(tmp_path / "in")
    os.rename(root / folder, root / "real")
    (root / folder).symlink_to(root / "real")
    assert are_right(episodes(root))
    os.rename(root / "real", tmp_path / "real")
    (root / folder).unlink()
    (root / folder).symlink_to(tmp_path / "real")
    try:
        said = refusals(root)
    except UsageError as error:
        said = [str(error)]
    assert all("leads outside of the dataset" in text for text in said)


# -- JSON, names, paths -------------------------------------------------------------------------------------


def test_nan_that_nobody_needs_is_kept_as_text(tmp_path: Path) -> None:
    scores = [float("nan"), float("inf"), 0.5]
    root = made(
        tmp_path / "in",
        version="v2.1",
        rows=lambda rows: [{**row, "score": score} for row, score in zip(rows, scores, strict=True)],
    )
    found = episodes(root)
    assert are_right(found)
    assert [e.meta["episode_metadata"]["score"] for e in found] == ["NaN", "Infinity", 0.5]


def test_nan_that_is_needed_is_refused(tmp_path: Path) -> None:
    rows: Callable[[Any], Any] = lambda rows: [{**row, "length": float("nan")} for row in rows]  # noqa: E731
    with pytest.raises(UsageError, match=r"meta/episodes\.jsonl"):
        LerobotSource(root=made(tmp_path / "in", version="v2.1", rows=rows)).episodes()


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    root = made(tmp_path / "in", version="v2.1")
    with (root / "meta/episodes.jsonl").open("a") as file:
        file.write("{")
    with pytest.raises(UsageError, match=r"line 4 of meta/episodes\.jsonl"):
        LerobotSource(root=root).episodes()


def test_names_of_features_cost_nothing_until_they_become_paths(tmp_path: Path) -> None:
    columns = [{**e, "a/b": [1.0] * 4} for e in EPISODE]
    root = made(tmp_path / "in", episodes=columns, features={**FEATURES, "a/b": vector(1)})
    assert [e.arrays["a/b"].tolist() for e in episodes(root)] == [[1.0] * 4] * 3
    problems: list[str] = []
    sink = vd.open_sink(tmp_path / "out")
    with pytest.raises(vd.errors.RefusedError):
        vd.run(LerobotSource(root=root), (), sink, engine=Here(), on_problem=problems.append)
    assert all("--rename a/b=NAME or --drop a/b" in line for line in problems)
    assert converted(root, tmp_path / "out", SelectFeatures(drop=("a/*",))).counts["published_episodes"] == 3


def test_a_camera_whose_name_is_no_folders_is_refused_unless_it_is_left_out(tmp_path: Path) -> None:
    root = made(tmp_path / "in", features={**FEATURES, "../../x": camera("video")})
    assert all("E122" in text and "--drop" in text for text in refusals(root))
    assert are_right(episodes(root, leave_out=("../../x",)))


@pytest.mark.parametrize(
    "template",
    [
        "data/part-{chunk_index:02d}/{file_index}.parquet",
        "data/file_{file_index:05d}.parquet",
        "data/{chunk_index}/deep/er/file-{file_index:03d}.parquet",
    ],
)
def test_own_names_of_files_are_read(template: str, tmp_path: Path) -> None:
    root = made(tmp_path / "in", info={"data_path": template})
    target = root / template.format(chunk_index=0, file_index=0)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(root / DATA.format(chunk_index=0, file_index=0), target)
    assert are_right(episodes(root))


@pytest.mark.parametrize(
    "template",
    [
        "../data/{file_index}.parquet",
        "/data/{file_index}.parquet",
        "data/../../{file_index}.parquet",
        "data/{file_index.__class__}.parquet",
        "data/{file_index:>99999999d}.parquet",
        "data/{file_index!r}.parquet",
        "data/{0}.parquet",
        "data/{video_key}.parquet",
        "data/all.parquet",
        "data/{file_index}.txt",
        7,
        None,
    ],
)
def test_names_of_files_that_lead_elsewhere_are_refused(template: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        LerobotSource(root=made(tmp_path / "in", info={"data_path": template})).episodes()
    assert caught.value.code == "E122"


# -- instructions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["pick\n", "pick\nplace", "a\tb", "a\r\nb", "x" * 5_000])
def test_texts_of_several_lines_and_long_ones_are_kept_as_they_are(text: str, tmp_path: Path) -> None:
    root = made(tmp_path / "in", tasks=(text,))
    assert [e.task for e in episodes(root)] == [text] * 3
    if text == "pick\nplace":
        converted(root, tmp_path / "out")
        assert pq.read_table(tmp_path / "out/meta/tasks.parquet")["task"].to_pylist() == [text]
        assert [e.task for e in episodes(tmp_path / "out")] == [text] * 3


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_a_task_that_is_given_stands_in_for_empty_ones(text: str, tmp_path: Path) -> None:
    root = made(tmp_path / "in", tasks=(text,))
    assert {message[:4] for message in refusals(root)} == {"E211"}
    assert [e.task for e in episodes(root, task="pick the cup")] == ["pick the cup"] * 3
    assert "task='pick the cup'" in repr(LerobotSource(root=root, task="pick the cup"))
    assert [e.task for e in episodes(made(tmp_path / "told"), task="other")] == ["pick"] * 3


def test_rows_without_a_task_have_the_only_one_and_no_other(tmp_path: Path) -> None:
    without = [{**e, "task_index": None} for e in EPISODE]
    assert [e.task for e in episodes(made(tmp_path / "one", episodes=without))] == ["pick"] * 3
    two = made(tmp_path / "two", episodes=without, tasks=("pick", "place"))
    assert all("no task_index" in text for text in refusals(two))


# -- what is declared or shown and left out -------------------------------------------------------------------


LANGUAGE: Final = [[{"role": "user", "content": "now", "timestamp": 0.0}]] * 4


@pytest.mark.parametrize(
    ("column", "feature", "note", "words"),
    [
        (None, vector(), "no_column_of:x", "x is declared and left out: no data file has it"),
        (None, camera("video"), "no_video_of:x", "x is declared and left out: there is no video of it"),
        (
            LANGUAGE,
            {"dtype": "language", "shape": [1]},
            "language_left_out:x",
            "x is left out: it is declared as language",
        ),
        (pa.nulls(4), None, "column_left_out:x", "x is left out: it is declared nowhere"),
        ([[{"a": "b"}]] * 4, None, "column_left_out:x", "x is left out: it is declared nowhere"),
        (numbers().tolist(), vector(6), "shape_is_not_as_declared:x", "x has another shape than is declared"),
        (numbers().tolist(), vector(3, names=["a"]), "names_left_out:x", "the names of x are left out"),
        ([[0.1] * 3] * 4, vector(), "rounded_to_float32:x", "rounded to float32"),
    ],
)
def test_what_is_left_out_or_changed_by_rule_is_said(
    column: Any, feature: Any, note: str, words: str, tmp_path: Path
) -> None:
    columns = [{**e, **({} if column is None else {"x": column})} for e in EPISODE]
    features = {**FEATURES, **({} if feature is None else {"x": feature})}
    root = made(tmp_path / "in", episodes=columns, features=features)
    found = [e.notes for e in episodes(root)]
    assert all(note in notes for notes in found)
    assert any(words in line and "(3 episodes)" in line for line in told(found))


def test_what_is_left_out_is_in_the_result_in_json_and_in_the_ledger(tmp_path: Path) -> None:
    columns = [{**e, "y": [1.0] * 4, "z": [1.0] * 4} for e in EPISODE]
    features = {**FEATURES, "x": vector(), "y": vector(1), "z": vector(1)}
    root = made(tmp_path / "in", episodes=columns, features=features)
    report = converted(root, tmp_path / "out", SelectFeatures(drop=("y",)), leave_out=("z",))
    lines = [
        "the dataset has no image",
        "left out as asked: y, z",
        "x is declared and left out: no data file has it (3 episodes)",
    ]
    assert list(report.warnings) == report.to_json()["warnings"] == lines
    for record in vd.open_ledger(tmp_path / "out").records:
        assert set(record.notes) == {"left_out:y", "left_out:z", "no_column_of:x"}


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pa.nulls(4), "x has no value in any row"),
        ([[1.0, 2.0, 3.0]] * 3 + [None], "x has no value in row 3"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], "x has 2 values in row 1"),
        ([[{"a": "b"}]] * 4, "x has list<element: struct<a: string>>"),
    ],
)
def test_what_is_declared_and_can_not_be_read_is_refused_and_can_be_left_out(
    column: Any, words: str, tmp_path: Path
) -> None:
    columns = [{**e, "x": column} for e in EPISODE]
    root = made(tmp_path / "in", episodes=columns, features={**FEATURES, "x": vector()})
    for text in refusals(root):
        assert words in text
        assert "--drop x leaves it out" in text
    source = narrowed(LerobotSource(root=root), [SelectFeatures(drop=("x",))])
    found = [source.read(ref) for ref in source.episodes()]
    assert are_right(found)
    assert told(e.notes for e in found) == ["left out as asked: x"]


def test_leaving_out_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave_out names 'nothing'"):
        LerobotSource(root=made(tmp_path / "in"), leave_out=("nothing",)).episodes()


def test_a_camera_without_a_place_costs_its_episode_alone(tmp_path: Path) -> None:
    keys = [f"videos/{TOP}/{key}" for key in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")]
    root = made(tmp_path / "in", features={**FEATURES, TOP: camera("video")})
    folder = root / f"videos/{TOP}/chunk-000"
    folder.mkdir(parents=True)
    (folder / "file-000.mp4").write_bytes(b"no video")
    change_table(
        root / EPISODES,
        lambda table: pa.Table.from_pylist(
            [{**row, **dict.fromkeys(keys, None if row["episode_index"] else 0)} for row in table.to_pylist()]
        ),
    )
    first, *others = refusals(root)
    assert first.startswith("E109")
    assert all(text.startswith("E133") and "--drop" in text for text in others)
    assert are_right(episodes(root, leave_out=(TOP,)))


# -- success ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_success_may_be_a_number(dtype: str, tmp_path: Path) -> None:
    flags = [np.array([0, 0, 1, n], dtype).tolist() for n in (1, 0, 0)]
    columns = [{**e, "next.success": flag} for e, flag in zip(EPISODE, flags, strict=True)]
    root = made(tmp_path / "in", episodes=columns, features={**FEATURES, "next.success": vector(1, dtype)})
    steps = (RequireSuccess(min_steps=2), CutAfterSuccess(min_steps=2))
    assert [curate(e, steps).success for e in episodes(root)] == [True, False, False]


def test_success_that_is_neither_0_nor_1_is_refused_where_it_is_needed(tmp_path: Path) -> None:
    columns = [{**e, "next.success": [0.0, 0.2, 0.9, 1.0]} for e in EPISODE]
    root = made(tmp_path / "in", episodes=columns, features={**FEATURES, "next.success": vector(1)})
    assert all(curate(e, ()).success for e in episodes(root))
    with pytest.raises(DataError) as caught:
        RequireSuccess().reject(episodes(root)[0])
    assert caught.value.code == "E205"


@pytest.mark.parametrize("storage", ["lance", 3])
def test_data_that_are_no_parquet_are_refused_with_one_line(storage: Any, tmp_path: Path) -> None:
    root = made(tmp_path / "in", info={"storage_format": storage})
    shutil.rmtree(root / "data")
    with pytest.raises(UsageError, match=f"keeps its data as {storage}, not as Parquet files") as caught:
        LerobotSource(root=root).episodes()
    assert caught.value.code == "E002"
    assert made(tmp_path / "plain", info={"storage_format": "parquet"})
    assert are_right(episodes(tmp_path / "plain"))
