"""`LerobotSource`: facts and splits, odd and hostile metadata, random access, pickling, files of others."""

from __future__ import annotations

import itertools
import json
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vla_data as vd
from converters.lerobot.extra import extra_files
from converters.lerobot.layout import Layout
from converters.lerobot.meta import split_ranges
from converters.lerobot.source import LerobotSource
from converters.lerobot.templates import V2_DATA, V2_VIDEO
from tests.paths import SHARED, TESTS
from vla_data.errors import DataError, UsageError
from vla_data.media import video
from vla_data.media.frames import Frames
from vla_data.media.video_settings import VideoSettings

ROLLOUTS = TESTS / "data/rollouts"
GROOT = SHARED / "lerobot_v20_groot"
CAMERA = "observation.images.primary"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source") / "set"
    vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root), workers=1)
    return root


@pytest.fixture
def copy(ours: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ours, tmp_path / "copy"))


def read(root: Path, number: int = 0) -> vd.Episode:
    source = LerobotSource(root=root)
    return source.read(source.episodes()[number])


def change_info(root: Path, **values: Any) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def replaced(name: str, values: Any) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


def v21(root: Path) -> Path:
    """A dataset in the layout of v2.1, with the rows of a v3.0 one, as lerobot 0.3 lays them out."""
    out = root.parent / "v21"
    old = json.loads((root / "meta/info.json").read_text())
    rows = pq.read_table(root / DATA)
    lengths = pq.read_table(root / EPISODES).to_pylist()
    (out / "meta").mkdir(parents=True)
    (out / "data/chunk-000").mkdir(parents=True)
    info = old | {"codebase_version": "v2.1", "data_path": V2_DATA, "video_path": V2_VIDEO, "chunks_size": 1000}
    (out / "meta/info.json").write_text(json.dumps(info))
    tasks = pq.read_table(root / "meta/tasks.parquet").to_pylist()
    (out / "meta/tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks))
    lines = []
    for row in lengths:
        number = row["episode_index"]
        episode = rows.filter(pa.compute.equal(rows["episode_index"], number))
        pq.write_table(episode, out / V2_DATA.format(episode_chunk=0, episode_index=number))
        lines.append({k: row[k] for k in ("episode_index", "tasks", "length")} | {"success": number != 0})
    (out / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


# -- facts and splits ---------------------------------------------------------------------------------


def test_facts_of_the_first_source_come_back(ours: Path) -> None:
    episode = read(ours, 1)
    assert "split" not in episode.meta  # rollouts say nothing of it
    assert episode.meta["origin"] == {
        "id": "PutCarrotOnPlate_hold_ep0.npy",
        "source": "ppo_rollout",
        "info_timing": "after",
        "info_timing_rule": "elapsed_steps",
        "motion_planner": False,
        "fps": None,
    }
    assert episode.meta["source"] == "lerobot"
    assert "info_timing" not in episode.meta


def test_origin_is_that_of_the_first_source_however_often_it_is_converted(ours: Path, tmp_path: Path) -> None:
    vd.run(LerobotSource(root=ours), (), vd.open_sink(tmp_path / "again"), workers=1)
    assert read(tmp_path / "again").meta["origin"] == read(ours).meta["origin"]


def test_ledger_of_other_data_says_nothing(copy: Path) -> None:
    def reverse(table: pa.Table) -> pa.Table:
        ids = table["vla_data/source"].to_pylist()[::-1]
        return replaced("vla_data/source", ids)(table)

    change_table(copy / EPISODES, reverse)
    assert "origin" not in read(copy, 0).meta
    assert "origin" in read(copy, 1).meta  # of three, the middle one stays


@pytest.mark.parametrize("damage", ["gone", "garbage", "meta"])
def test_damaged_ledger_says_nothing(copy: Path, damage: str) -> None:
    ledger = copy / "meta/vla_data/ledger.parquet"
    if damage == "gone":
        ledger.unlink()
    elif damage == "garbage":
        ledger.write_bytes(b"PAR1 not at all")
    else:
        change_table(ledger, replaced("meta", ["{", "[1]", '{"a": NaN}']))
    assert [sorted(read(copy, i).meta) for i in range(3)] == [
        ["source", "source_length", "source_sha256", "split", "task_table"]
    ] * 3


def test_columns_of_others_are_facts(copy: Path) -> None:
    def add(table: pa.Table) -> pa.Table:
        table = table.append_column("success", pa.array([True, False, None]))
        table = table.append_column("score", pa.array([0.5, float("nan"), 2.0]))
        return table.append_column("subtask_names", pa.array([["reach", "lift"], [], None]))

    change_table(copy / EPISODES, add)
    assert [read(copy, i).meta.get("episode_metadata") for i in range(3)] == [
        {"success": True, "score": 0.5, "subtask_names": ["reach", "lift"]},
        {"success": False, "score": "nan", "subtask_names": []},
        {"score": 2.0},
    ]


def test_keys_of_others_in_v21_are_facts(copy: Path) -> None:
    root = v21(copy)
    assert [read(root, i).meta["episode_metadata"] for i in range(3)] == [
        {"success": number != 0} for number in range(3)
    ]


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": "0:2", "val": "2:3"}, ["train", "train", "val"]),
        ({"train": "0:100"}, ["train"] * 3),  # ends with the last episode
        ({"train": "0:2", "test": "3:9"}, ["train", "train", None]),  # begins beyond it
        ({"train": "0:3", "val": "2:3"}, ["train", "train", None]),  # which of the two?
        ({"train": "80%", "val": "-1:2", "test": ["0", "3"], "a": "2:1"}, [None] * 3),
        (["train"], [None] * 3),
    ],
)
def test_splits_of_info(copy: Path, splits: Any, expected: list[str | None]) -> None:
    (copy / "meta/vla_data/ledger.parquet").unlink()
    change_info(copy, splits=splits)
    assert [read(copy, i).meta.get("split") for i in range(3)] == expected


@given(st.lists(st.sampled_from(["train", "val", "test", None]), min_size=1, max_size=12))
def test_split_ranges_say_what_they_can(names: list[str | None]) -> None:
    ranges = {name: range(*map(int, text.split(":"))) for name, text in split_ranges(names).items()}
    assert all(
        set(numbers) == {i for i, own in enumerate(names) if own == name} for name, numbers in ranges.items()
    )
    runs = [name for name, _ in itertools.groupby(names)]
    assert list(ranges) == [name for name in runs if name is not None and runs.count(name) == 1]


# -- odd and hostile metadata (reliability.md, rows 30-33, 65, 74) ---------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"data_path": "/etc/{chunk_index:03d}/passwd"}, "E122"),
        ({"data_path": "../data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"}, "E122"),
        ({"data_path": "data/{chunk_index.__class__}/file-{file_index:03d}.parquet"}, "E122"),
        ({"codebase_version": "v4.0"}, "E002"),
        ({"codebase_version": ["v3.0"]}, "E002"),
        ({"fps": 0}, "E221"),
        ({"fps": "5"}, "E221"),
        ({"fps": True}, "E221"),
        ({"features": ["action"]}, "E141"),
        ({"features": {"x": {"dtype": "video"}}, "video_path": "videos/x"}, "E122"),
        ({"features": {"x": {"dtype": "video"}}, "video_path": "videos/../{video_key}.mp4"}, "E122"),
    ],
)
def test_info_that_can_not_be_right_refuses_the_dataset(copy: Path, change: dict[str, Any], code: str) -> None:
    change_info(copy, **change)
    with pytest.raises(UsageError) as caught:
        LerobotSource(root=copy).episodes()
    assert caught.value.code == code


def test_unknown_version_names_both(copy: Path) -> None:
    change_info(copy, codebase_version="v4.0")
    with pytest.raises(UsageError, match=r"v4\.0 is not read; v3\.0, v2\.1, v2\.0 are"):
        LerobotSource(root=copy).episodes()


@pytest.mark.parametrize("text", ["{", '{"fps": 1, "fps": 2}', '{"fps": NaN}', "[" * 100 + "]" * 100, "[]", "1"])
def test_info_that_is_no_sound_json_refuses_the_dataset(copy: Path, text: str) -> None:
    (copy / "meta/info.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        LerobotSource(root=copy).episodes()
    assert caught.value.code in ("E141", "E002")


@pytest.mark.parametrize(
    ("name", "values", "code"),
    [
        ("episode_index", [0, 1, 1], "E004"),
        ("episode_index", [0, 1, None], "E141"),
        ("episode_index", ["0", "1", "2"], "E141"),
        ("length", [-1, 1, 1], "E141"),
        ("data/file_index", [0, 0, 10**12], "E141"),
    ],
)
def test_episodes_that_can_not_be_right_refuse_the_dataset(
    copy: Path, name: str, values: list[Any], code: str
) -> None:
    change_table(copy / EPISODES, replaced(name, values))
    source = LerobotSource(root=copy)
    with pytest.raises(UsageError) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == code


def test_damaged_dataset_asks_nobody(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 32: what is not there is not fetched; nothing here even opens a socket."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    (copy / DATA).unlink()
    source = LerobotSource(root=copy)
    with pytest.raises(DataError) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E133"
    shutil.rmtree(copy / "meta/episodes")
    with pytest.raises(UsageError, match="lists no episodes"):
        LerobotSource(root=copy).episodes()


def test_links_out_of_the_dataset_are_not_followed(copy: Path, tmp_path: Path) -> None:
    shutil.move(copy / DATA, tmp_path / "elsewhere.parquet")
    (copy / DATA).symlink_to(tmp_path / "elsewhere.parquet")
    source = LerobotSource(root=copy)
    with pytest.raises(DataError) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E131"


def test_image_paths_out_of_the_dataset_are_not_followed(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"secret")
    for path in ("../secret.png", str(tmp_path / "secret.png"), "a\0b"):

        def point(table: pa.Table, path: str = path) -> pa.Table:
            items = [{"bytes": None, "path": path}] * len(table)
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            at = table.column_names.index(CAMERA)
            return table.set_column(at, CAMERA, pa.array(items, kind))

        change_table(copy / DATA, point)
        source = LerobotSource(root=copy)
        with pytest.raises(DataError) as caught:
            source.read(source.episodes()[0])
        assert caught.value.code == "E131"


class _Gadget:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import converters; converters.ran = True",)


def test_pickles_in_arrow_types_are_not_read(copy: Path) -> None:
    """Row 33: ``arrow.py_extension_type``, whose metadata older Arrow unpickled (CVE-2023-47248)."""
    import converters

    tag = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(_Gadget())}

    def tagged(table: pa.Table) -> pa.Table:
        fields = [f.with_metadata(tag) if f.name == "action" else f for f in table.schema]
        return table.cast(pa.schema(fields, metadata=table.schema.metadata))

    want = read(copy).arrays["action"]
    change_table(copy / DATA, tagged)
    np.testing.assert_array_equal(read(copy).arrays["action"], want)
    assert not hasattr(converters, "ran")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: np.where(np.arange(len(t)) == 7, np.nan, t), "timestamp 7 is not finite"),
        (lambda t: np.where(np.arange(len(t)) == 7, t[5], t), "timestamps do not grow at frame 7"),
        (lambda t: t + (np.arange(len(t)) >= 7), r"timestamps grow by 1\.2 s at frame 7, not by 1/5 s"),
        (lambda t: t * 1.1, r"timestamps are of 4\.5\d* Hz, not 5"),
        (lambda t: t * 2, r"grow by 0\.4 s at frame 1"),
    ],
    ids=["nan", "back", "jump", "slow", "half the rate"],
)
def test_time_that_is_not_the_clocks_is_refused(copy: Path, change: Any, message: str) -> None:
    def alter(table: pa.Table) -> pa.Table:
        time = np.asarray(table["timestamp"], dtype=np.float64)
        new = [change(time[np.asarray(table["episode_index"]) == n]) for n in range(3)]
        return replaced("timestamp", np.concatenate(new).astype(np.float32))(table)

    change_table(copy / DATA, alter)
    source = LerobotSource(root=copy)
    with pytest.raises(DataError, match=message) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E221"


def test_action_that_is_no_number_is_refused(copy: Path) -> None:
    def poison(table: pa.Table) -> pa.Table:
        values = np.array(table["action"].combine_chunks().flatten(), dtype=np.float32)
        values[7 * 3 + 2] = np.nan
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), 7)
        return table.set_column(table.column_names.index("action"), "action", column)

    change_table(copy / DATA, poison)
    source = LerobotSource(root=copy)
    with pytest.raises(DataError, match=r"action\[3\]\[2\] is nan") as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E201"


@pytest.mark.parametrize(("task", "code"), [("", "E211"), ("a\x1b[2J", "E212"), ("x" * 70_000, "E212")])
def test_task_that_is_no_instruction_is_refused(copy: Path, task: str, code: str) -> None:
    change_table(copy / "meta/tasks.parquet", replaced("task", [task]))
    source = LerobotSource(root=copy)
    with pytest.raises(DataError) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == code
    if code == "E211":
        assert LerobotSource(root=copy, allow_empty_instruction=True).read(source.episodes()[0]).task == ""


# -- reading little ------------------------------------------------------------------------------------


def test_source_carries_its_options_alone(ours: Path) -> None:
    source = LerobotSource(root=ours, allow_empty_instruction=True)
    before = pickle.dumps(source)
    source.read(source.episodes()[0])
    assert pickle.dumps(source) == before
    again = pickle.loads(before)
    assert again == source
    assert again.read(again.episodes()[0]).meta == source.read(source.episodes()[0]).meta


def test_planning_ten_thousand_episodes_is_quick(copy: Path) -> None:
    """Row P10: 0.1 s here, of which the limit leaves a slow machine a lot."""
    rows = pq.read_table(copy / EPISODES).slice(0, 1)
    n = 10_000
    many = pa.concat_tables([rows] * n)
    for name in ("episode_index", "dataset_from_index"):
        many = replaced(name, np.arange(n))(many)
    pq.write_table(many, copy / EPISODES, row_group_size=100)
    start = time.process_time()
    refs = LerobotSource(root=copy).episodes()
    assert time.process_time() - start < 2.0
    assert len(refs) == n
    assert len({ref.id for ref in refs}) == n


def test_sizes_add_up_to_the_files(ours: Path) -> None:
    refs = LerobotSource(root=ours).episodes()
    size = (ours / DATA).stat().st_size
    assert size - len(refs) <= sum(ref.size for ref in refs) <= size


def test_fingerprint_is_of_the_metadata_too(copy: Path) -> None:
    source = LerobotSource(root=copy)
    ref = source.episodes()[0]
    before = source.fingerprint(ref)
    change_info(copy, robot_type="another")
    assert LerobotSource(root=copy).fingerprint(ref) != before


@pytest.mark.parametrize(("gop", "most"), [(2, 2), (10, 10)])
def test_only_the_frames_that_are_looked_at_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gop: int, most: int
) -> None:
    pixels = [np.full((16, 16, 3), t, np.uint8) for t in range(240)]
    data = video.encode(iter(pixels), VideoSettings(codec="h264", gop=gop, crf=10), fps=10)
    path = tmp_path / "many.mp4"
    path.write_bytes(data)
    counts: list[int] = []
    real = video._decoded
    monkeypatch.setattr(video, "_decoded", lambda *a: (counts.append(frame.pts) or frame for frame in real(*a)))
    frames = Frames(video.Clip(path, 20).frames(200), 16, 16)
    some = frames.take([3, 97, 181])
    assert len(some) == 3
    assert counts == []  # taking costs nothing
    for i, t in enumerate((23, 117, 201)):
        assert abs(int(some.pixels(i)[8, 8, 0]) - t) <= 3
    assert 3 <= len(counts) <= 3 * most  # at most from the key frame before each


# -- v2.1 and v2.0 --------------------------------------------------------------------------------------


def test_v21_is_read_as_v30_is(copy: Path) -> None:
    root = v21(copy)
    for number in range(3):
        new, old = read(copy, number), read(root, number)
        assert old.task == new.task
        assert old.arrays.keys() == new.arrays.keys()
        for name, array in new.arrays.items():
            np.testing.assert_array_equal(old.arrays[name], array)
        assert old.frames[CAMERA] == new.frames[CAMERA]
    assert LerobotSource(root=root).schema(read(root)).fps == 5.0


@pytest.mark.skipif(not GROOT.exists(), reason="the shared episodes are not there")
def test_v20_sample_whose_info_lies() -> None:
    source = LerobotSource(root=GROOT)
    assert len(source.episodes()) == 5
    for number, ref in enumerate(source.episodes()):
        episode = source.read(ref)
        raw = pq.read_table(GROOT / V2_DATA.format(episode_chunk=0, episode_index=number))
        want = np.asarray(raw["action"].to_pylist())
        np.testing.assert_array_equal(episode.arrays["action"], want)
        assert episode.arrays["action"].dtype == np.float64
        assert episode.meta["split"] == "train"  # "0:100" of five
        assert "no_video_of:observation.images.egoview" in episode.notes


# -- files of others ------------------------------------------------------------------------------------


def test_files_of_others_are_listed_with_their_places(copy: Path, tmp_path: Path) -> None:
    for name in (
        *("LICENSE", "notes.txt", "meta/modality.json", "meta/advantages.json", "sarm_progress.parquet"),
        *("annotations/a/b.json", ".git/config", "images/left.png", "meta/.cache"),
    ):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(name)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    (copy / "stolen").symlink_to(tmp_path / "outside/secret")
    (copy / "folder").symlink_to(tmp_path / "outside")
    (copy / "loop").symlink_to(copy / "loop")
    (copy / "inside").symlink_to(copy / "LICENSE")
    assert "README.md" not in {file.path for file in LerobotSource(root=copy).extra_files()}  # it is our own card
    (copy / "meta/vla_data/manifest.json").unlink()
    files = LerobotSource(root=copy).extra_files()
    assert {file.path: (file.target(unchanged=True), file.target(unchanged=False)) for file in files} == {
        "LICENSE": ("LICENSE", "LICENSE"),
        "README.md": ("meta/vla_data/original/README.md",) * 2,
        "annotations/a/b.json": ("annotations/a/b.json", "meta/vla_data/original/annotations/a/b.json"),
        "inside": ("inside", "meta/vla_data/original/inside"),
        "meta/advantages.json": ("meta/advantages.json", "meta/vla_data/original/meta/advantages.json"),
        "meta/modality.json": ("meta/modality.json",) * 2,
        "notes.txt": ("notes.txt",) * 2,
        "sarm_progress.parquet": ("sarm_progress.parquet", "meta/vla_data/original/sarm_progress.parquet"),
    }
    assert {file.read(copy) for file in files if file.path in ("LICENSE", "inside")} == {b"LICENSE"}
    assert all(file.size == len(file.read(copy)) for file in files)


def test_too_many_files_of_others_refuse_the_copy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converters.lerobot.extra.MAX_FILES", 3)
    for i in range(3):
        (copy / f"{i}.bin").write_bytes(b"")
    with pytest.raises(UsageError) as caught:  # with the card they are four
        extra_files(copy)
    assert caught.value.code == "E107"


def test_layout_has_no_episode_that_is_not_listed(ours: Path) -> None:
    with pytest.raises(KeyError):
        Layout(ours).place(3)
    with pytest.raises(UsageError) as caught:
        LerobotSource(root=ours).read(vd.EpisodeRef("episode_000003", 0))
    assert caught.value.code == "E007"
