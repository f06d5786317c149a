"""The RLDS sink with all fields: stock TFDS reads every number, round trips keep the content, lies are found."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import vla_data as vd
from converters.rlds import fields as rlds_fields
from converters.rlds import images as rlds_images
from converters.rlds import names as rlds_names
from converters.rlds.sink import RldsSink
from converters.rlds.source import RldsSource
from tests.converters.rlds.test_source import REAL, altered_records, assert_equal, bridge, stock, zoo
from tests.paths import TESTS
from vla_data.cli.convert import command
from vla_data.core import Episode, EpisodeRef, Feature, Published, Schema
from vla_data.errors import DataError, UsageError
from vla_data.files.sums import SEAL, format_sums, hash_file
from vla_data.media.frames import Frames
from vla_data.verification.check import verify

__all__ = ["zoo"]  # the fixture
ROLLOUTS = TESTS / "data/rollouts"
SHARD = "out-train.tfrecord-00000-of-00001"


def convert(source: Any, folder: Path, **options: Any) -> dict[str, str]:
    """Write all of a source; returns id -> content digest."""
    sink = RldsSink(target=folder, **{"name": "out", "step_fields": "rlds", **options})
    vd.run(source, (), sink, workers=1)
    records = vd.open_ledger(folder).records
    assert all(record.status == "published" for record in records)
    return {record.id: str(record.content_sha256) for record in records}


@pytest.fixture(scope="session")
def written(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up dataset, written by us."""
    folder = tmp_path_factory.mktemp("written") / "out/1.0.0"
    convert(RldsSource(root=zoo, fps=5, robot="panda"), folder)
    return folder


# -- what TFDS reads ------------------------------------------------------------------------------------


def test_tfds_reads_from_ours_what_it_reads_from_the_original(zoo: Path, written: Path) -> None:
    theirs = {facts["uid"]: (split, steps, facts) for split, steps, facts in stock(zoo)}
    ours = {facts["episode_metadata/uid"]: (split, steps, facts) for split, steps, facts in stock(written)}
    assert theirs.keys() == ours.keys()
    for uid, (split, steps, facts) in theirs.items():
        got_split, got, got_facts = ours[uid]
        assert got_split == split
        extra = {"next/truncated"}
        assert got.keys() == steps.keys() | extra
        for path, values in steps.items():
            if path == "observation/wrist/left":  # PNG, of which the default makes JPEG
                continue
            for a, b in zip(values, got[path], strict=True):
                # float16 is read as float32 in all formats, see docs/rlds.md: each value stays what it is.
                want = np.float32 if np.asarray(a).dtype == np.float16 else np.asarray(a).dtype
                assert np.asarray(b).dtype == want, path
                assert np.array_equal(a, b), path
        assert got_facts["episode_metadata/source_file_path"] == facts["episode_metadata/file_path"]
        for name in ("number", "weight", "good"):
            a, b = got_facts[f"episode_metadata/{name}"], facts[f"episode_metadata/{name}"]
            assert (a, np.asarray(a).dtype) == (b, np.asarray(b).dtype)
        text = json.loads(got_facts["episode_metadata/source_metadata"])
        assert text["camera/matrix"] == facts["episode_metadata/camera/matrix"].tolist()
        assert text["tags"] == [tag.decode() for tag in facts["episode_metadata/tags"]]


def test_real_episodes_are_the_same_bytes_of_images_and_numbers_in_tfds(tmp_path: Path) -> None:
    convert(bridge(), tmp_path / "1.0.0")
    source = bridge()
    theirs = {facts["episode_metadata/file_path"].decode(): steps for _, steps, facts in stock(tmp_path / "1.0.0")}
    assert len(theirs) == 3
    for ref in source.episodes():
        episode = source.read(ref)
        for name, frames in episode.frames.items():
            assert theirs[ref.id][f"observation/{name.rpartition('.')[2]}"] == list(frames.items)
        for path, name in (("action", "action"), ("observation/state", "observation.state")):
            assert np.array_equal(np.stack(theirs[ref.id][path]), episode.arrays[name])
        assert [bool(x) for x in theirs[ref.id]["is_first"]] == [True] + [False] * 5
        assert [bool(x) for x in theirs[ref.id]["is_last"]] == [False] * 5 + [True]


def test_the_source_reads_ours_as_tfds_does(written: Path) -> None:
    source = RldsSource(root=written)
    for ref in source.episodes():
        episode = source.read(ref)
        assert episode.meta["episode_metadata"]["uid"].startswith("u-")
        assert episode.meta["origin"]["id"] == ref.id
    assert source.schema(episode).fps == 5
    assert source.schema(episode).robot == "panda"


def test_a_stranger_who_takes_the_sidecar_away_reads_the_same_numbers(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out/1.0.0"
    shutil.copytree(written, folder)
    shutil.rmtree(folder / "vla_data")
    assert assert_equal(RldsSource(root=folder, fps=5), folder) == 16


# -- round trips ----------------------------------------------------------------------------------------


def test_rlds_to_rlds_keeps_the_content_of_every_kind_of_feature(written: Path, tmp_path: Path) -> None:
    first = {record.id: record.content_sha256 for record in vd.open_ledger(written).records}
    assert convert(RldsSource(root=written), tmp_path / "again") == first
    one, other = vd.open_ledger(written).records, vd.open_ledger(tmp_path / "again").records
    assert {r.id: r.split for r in one} == {r.id: r.split for r in other}
    assert {r.id: r.meta["episode_metadata"] for r in one} == {r.id: r.meta["episode_metadata"] for r in other}


def test_the_same_twice_is_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        convert(bridge(), tmp_path / name)
    files = [{p.name: p.read_bytes() for p in (tmp_path / name).iterdir() if p.is_file()} for name in "ab"]
    assert files[0] == files[1]


def test_rlds_to_lerobot_to_rlds_keeps_the_content(tmp_path: Path) -> None:
    first = convert(bridge(), tmp_path / "a")
    source = RldsSource(root=tmp_path / "a", allow_empty_instruction=True)
    vd.run(source, (), vd.open_sink(tmp_path / "l", format="lerobot", images="jpeg"), workers=1)
    back = vd.open_source(f"lerobot:{tmp_path / 'l'}", allow_empty_instruction=True)
    assert sorted(convert(back, tmp_path / "c").values()) == sorted(first.values())


def test_png_is_lossless_and_jpeg_passes_through(tmp_path: Path) -> None:
    convert(bridge(), tmp_path / "png", images="png")
    convert(RldsSource(root=tmp_path / "png", allow_empty_instruction=True), tmp_path / "again", images="png")
    a, b = (vd.open_ledger(tmp_path / name).records for name in ("png", "again"))
    assert {r.id: r.content_sha256 for r in a} == {r.id: r.content_sha256 for r in b}
    source, original = RldsSource(root=tmp_path / "png", allow_empty_instruction=True), bridge()
    for ref in original.episodes():
        for name, frames in original.read(ref).frames.items():
            found = source.read(ref).frames[name]
            assert all(np.array_equal(found.pixels(i), frames.pixels(i)) for i in range(len(frames)))
    features = json.loads((tmp_path / "png/features.json").read_text())
    assert '"encodingFormat": "png"' in json.dumps(features)


# -- made-up episodes -----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Made:
    """A source of episodes that a test made."""

    made: Mapping[str, Episode] = dataclasses.field(repr=False)
    root: Path | None = dataclasses.field(default=None, repr=False)

    def episodes(self) -> list[EpisodeRef]:
        return [EpisodeRef(name, 1) for name in self.made]

    def fingerprint(self, ref: EpisodeRef) -> str:
        return ref.id.zfill(64)

    def read(self, ref: EpisodeRef) -> Episode:
        return self.made[ref.id]

    def schema(self, episode: Episode) -> Schema:
        features = {
            name: Feature(
                dtype="string" if array.dtype.kind == "U" else str(array.dtype), shape=array.shape[1:] or (1,)
            )
            for name, array in episode.arrays.items()
            if name != "task"
        }
        for name, frames in episode.frames.items():
            features[name] = Feature(dtype="image", shape=(frames.height, frames.width, 3))
        return Schema(features=features, fps=10)


def episode(
    name: str = "e",
    steps: int = 4,
    *,
    meta: Mapping[str, Any] | None = None,
    arrays: Mapping[str, Any] | None = None,
) -> Episode:
    pick = np.random.default_rng(steps)
    pixels = pick.integers(0, 255, (steps, 16, 16, 3), dtype=np.uint8)
    return Episode(
        id=name,
        arrays={"action": pick.normal(size=(steps, 7)).astype(np.float32), **(arrays or {})},
        frames={"observation.images.top": Frames(tuple(pixels), 16, 16)},
        task="do it",
        index=np.arange(steps),
        meta={"source": "made", "source_length": steps, "source_sha256": name.zfill(64), **(meta or {})},
    )


def write(tmp_path: Path, *episodes: Episode, **options: Any) -> RldsSource:
    folder = tmp_path / "out/1.0.0"
    convert(Made({e.id: e for e in episodes}), folder, **options)
    assert verify(folder, deep=True).damages == ()
    return RldsSource(root=folder)


def only(source: RldsSource) -> Episode:
    (ref,) = source.episodes()
    return source.read(ref)


def test_every_feature_comes_back_under_its_name_in_its_type_and_shape(tmp_path: Path) -> None:
    pick = np.random.default_rng(0)
    made = episode(
        arrays={
            "observation.state": pick.normal(size=(4, 3)),
            "observation.images.depth": pick.integers(0, 65535, (4, 5, 6), dtype=np.uint16),
            "observation.depth.wrist": pick.integers(0, 65535, (4, 5, 6, 1), dtype=np.uint16),
            "observation.points": pick.normal(size=(4, 2, 3)).astype(np.float32),
            "observation.gripper": pick.normal(size=(4, 1)).astype(np.float32),
            "observation.height": pick.normal(size=4),
            "action.joint": pick.normal(size=(4, 6)),
            "next.success": np.asarray([False, False, True, True]),
            "next.done": np.asarray([False, False, False, True]),
            "next.reward": np.asarray([0, 0, 1, 2], np.float64),
            "next.discount": np.asarray([1, 1, 1, 0.25], np.float32),
            "note": np.asarray(["a", "", "ü", "步"]),
            "task": np.asarray(["x", "x", "y", "y"]),
        }
    )
    found = only(write(tmp_path, dataclasses.replace(made, task="x")))
    assert list(found.frames) == list(made.frames)
    assert set(found.arrays) == set(made.arrays)
    for name, array in made.arrays.items():
        assert (found.arrays[name].dtype, found.arrays[name].shape) == (array.dtype, array.shape), name
        assert np.array_equal(found.arrays[name], array), name
    ((_, steps, _),) = stock(tmp_path / "out/1.0.0")
    assert [bool(x) for x in steps["is_terminal"]] == [False, False, False, True]
    assert [float(x) for x in steps["reward"]] == [0, 0, 1, 2]


def test_float32_is_an_option(tmp_path: Path) -> None:
    state = np.random.default_rng(0).normal(size=(4, 3))
    found = only(write(tmp_path, episode(arrays={"observation.state": state}), float32=True))
    assert found.arrays["observation.state"].dtype == np.float32
    assert np.array_equal(found.arrays["observation.state"], state.astype(np.float32))


@pytest.mark.parametrize(
    ("arrays", "meta", "terminated", "truncated", "reward"),
    [
        ({}, {}, 1, 0, 0),
        ({}, {"solved": False}, 0, 1, 0),
        ({"next.success": [0, 1, 1, 1]}, {}, 1, 0, 1),
        ({"next.success": [0, 1, 1, 0]}, {}, 0, 1, 0),
        ({"next.success": [0, 1, 1, 0]}, {"solved": True}, 1, 0, 1),
        ({"next.success": [0, 1, 1, 1]}, {"solved": False}, 0, 1, 0),
        ({"next.success": [0, 0, 0, 0], "next.done": [0, 0, 0, 1]}, {}, 0, 1, 0),
        ({"next.done": [0, 0, 0, 1]}, {}, 1, 0, 0),
        ({"next.terminated": [0, 0, 0, 0], "next.success": [1, 1, 1, 1]}, {}, 0, 1, 1),
        ({"next.terminated": [0, 0, 0, 1], "next.success": [0, 0, 0, 0]}, {}, 1, 0, 0),
        ({"next.terminated": [0, 0, 0, 0], "next.truncated": [0, 0, 0, 0]}, {}, 0, 0, 0),
        ({"next.terminated": [0, 0, 0, 1]}, {"solved": False}, 1, 0, 0),
    ],
)
def test_how_an_episode_ended(
    arrays: dict[str, list[int]], meta: dict[str, Any], terminated: int, truncated: int, reward: int
) -> None:
    """The last step says it; the others are no end, and have no reward."""
    flags = {name: np.asarray(values, bool) for name, values in arrays.items()}
    content = rlds_fields.content_of(episode(meta=meta, arrays=flags), ["action", *flags], {})
    found = content.arrays
    assert found["next.terminated"].tolist() == [False, False, False, bool(terminated)]
    assert found["next.truncated"].tolist() == [False, False, False, bool(truncated)]
    assert found["next.reward"].tolist() == [0, 0, 0, reward]
    assert found["next.discount"].tolist() == [1, 1, 1, 1 - terminated]
    assert content.derived == set(rlds_names.ENDS) - set(arrays)


FLAGS = st.lists(st.booleans(), min_size=4, max_size=4)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["next.success", "next.done", *rlds_names.ENDS]), FLAGS),
    st.sampled_from([None, True, False]),
)
def test_no_reward_without_a_recorded_success(flags: dict[str, list[bool]], solved: bool | None) -> None:
    arrays = {name: np.asarray(values) for name, values in flags.items()}
    made = episode(meta={} if solved is None else {"solved": solved}, arrays=arrays)
    content = rlds_fields.content_of(made, list(made.arrays), {})
    if "next.reward" in content.derived and content.arrays["next.reward"].any():
        assert solved or (solved is None and flags["next.success"][-1])
        assert content.arrays["next.reward"].tolist() == [0, 0, 0, 1]
    plain = dataclasses.replace(content, arrays={k: v for k, v in content.arrays.items() if k in made.arrays})
    assert content.digest() == plain.digest()


@pytest.mark.parametrize("success", [None, [0, 0, 0, 0], [0, 0, 1, 1]])
def test_what_was_not_recorded_is_in_the_records_and_not_in_the_episodes(
    success: list[int] | None, tmp_path: Path
) -> None:
    """Stock TFDS reads every field of RLDS; we read back what there was, under its digest."""
    arrays = {} if success is None else {"next.success": np.asarray(success, bool)}
    made = episode(arrays=arrays)
    source = write(tmp_path, made)
    ((_, steps, _),) = stock(tmp_path / "out/1.0.0")
    solved = bool(success and success[-1])
    assert [float(x) for x in steps["reward"]] == [0, 0, 0, solved]
    assert [bool(x) for x in steps["is_terminal"]] == [False, False, False, success is None or solved]
    assert [float(x) for x in steps["discount"]] == [1, 1, 1, 0 if success is None or solved else 1]
    found = only(source)
    assert found.arrays.keys() == made.arrays.keys()
    assert source.schema(found).features.keys() == Made({}).schema(made).features.keys()
    assert "solved" not in found.meta
    (first,), (again,) = (
        vd.open_ledger(folder).records
        for folder in (tmp_path / "out/1.0.0", _converted(source, tmp_path / "again"))
    )
    assert again.content_sha256 == first.content_sha256
    tree = json.loads((tmp_path / "out/1.0.0/features.json").read_text())
    fields = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    told = {name for name, field in fields.items() if "Not recorded" in json.dumps(field)}
    assert told == {"reward", "is_terminal", "discount"}


def _converted(source: RldsSource, folder: Path) -> Path:
    convert(source, folder)
    return folder


def test_a_success_that_curation_cut_off_is_not_forgotten(tmp_path: Path) -> None:
    """The rules know that the episode was solved, its steps don't show it: the second copy says so too."""
    flags = {"next.success": np.asarray([False, False, True, False])}
    source = write(tmp_path, episode(meta={"solved": True}, arrays=flags))
    assert only(source).meta["solved"] is True
    once, twice = tmp_path / "a/1.0.0", tmp_path / "b/1.0.0"
    convert(source, once)
    convert(RldsSource(root=once), twice)
    for folder in (once, twice):
        assert verify(folder, deep=True).damages == ()
        ((_, steps, _),) = stock(folder)
        assert [float(x) for x in steps["reward"]] == [0, 0, 0, 1]
        assert [bool(x) for x in steps["is_terminal"]] == [False, False, False, True]


def test_a_failure_stays_one_through_every_format(tmp_path: Path) -> None:
    """HDF5 of robomimic at the end has no success, reward or end that was not in the first source."""
    h5py = pytest.importorskip("h5py")
    convert(Made({"e": episode(arrays={"next.success": np.zeros(4, bool)})}), tmp_path / "r")
    vd.run(RldsSource(root=tmp_path / "r"), (), vd.open_sink(tmp_path / "l", format="lerobot"), workers=1)
    vd.run(vd.open_source(tmp_path / "l"), (), vd.open_sink(tmp_path / "h", format="robomimic"), workers=1)
    with h5py.File(tmp_path / "h/dataset.hdf5") as file:
        demo = file["data/demo_0"]
        assert demo["rewards"][()].tolist() == [0, 0, 0, 0]
        assert demo["rewards"].attrs["derived_by"] == "next.success"
        assert demo["dones"].attrs["derived_by"] == "next.success"


def test_declared_splits_stay_and_others_are_drawn(tmp_path: Path) -> None:
    made = [episode(f"e{i}", i + 2, meta={"split": "test" if i < 2 else "train"}) for i in range(4)]
    source = write(tmp_path, *made, episode("free", 9), episode("loose", 10), val_fraction=0.5)
    found = {ref.id: source.read(ref).meta["split"] for ref in source.episodes()}
    assert {name: found[name] for name in ("e0", "e1", "e2", "e3")} == {
        "e0": "test",
        "e1": "test",
        "e2": "train",
        "e3": "train",
    }
    assert {found["free"], found["loose"]} == {"train", "val"}
    info = json.loads((tmp_path / "out/1.0.0/dataset_info.json").read_text())
    assert [split["name"] for split in info["splits"]] == ["train", "val", "test"]


def test_no_split_is_made_up_unless_it_is_asked_for(tmp_path: Path) -> None:
    made = {f"e{i}": episode(f"e{i}", i + 2) for i in range(6)}
    for options, splits in (({}, {"train"}), ({"val_fraction": 0.5}, {"train", "val"})):
        folder = tmp_path / f"{len(options)}/1.0.0"
        sink = vd.open_sink(folder, format="rlds", name="out", step_fields="rlds", **options)
        vd.run(Made(made), (), sink, workers=1)
        assert {record.split for record in vd.open_ledger(folder).records} == splits


@pytest.mark.parametrize(
    ("count", "share", "val", "says"),
    [
        (1, 0.05, 0, "the only episode is in train; val, for which a share of 0.05 was asked, is empty"),
        (1, 0.99, 0, "the only episode is in train"),
        (2, 0.05, 1, "val has 1 of 2 episodes, where a share of 0.05 was asked"),
        (3, 0.05, 1, "val has 1 of 3 episodes, where a share of 0.05 was asked"),
        (2, 0.5, 1, ""),
        (3, 0.0, 0, ""),
    ],
)
def test_few_episodes_are_trained_on_and_what_was_drawn_is_told(
    tmp_path: Path, count: int, share: float, val: int, says: str
) -> None:
    made = Made({f"e{i}": episode(f"e{i}", i + 2) for i in range(count)})
    sink = RldsSink(target=tmp_path / "out/1.0.0", name="out", val_fraction=share)
    report = vd.run(made, (), sink, workers=1)
    splits = [record.split for record in vd.open_ledger(tmp_path / "out/1.0.0").records]
    assert (splits.count("val"), splits.count("train")) == (val, count - val)
    told = [line for line in report.warnings if " in train; val" in line or line.startswith("val has")]
    assert len(told) == bool(says)
    assert all(says in line for line in told)


def test_convert_has_val_as_an_option(tmp_path: Path) -> None:
    for words, splits in (([], {"train"}), (["--val", "0.5"], {"train", "val"})):
        target = str(tmp_path / str(len(words)))
        done = CliRunner().invoke(command, [str(ROLLOUTS), target, "--to", "rlds", *words])
        assert done.exit_code == 0, done.output
        assert {record.split for record in vd.open_ledger(target).records} == splits
    done = CliRunner().invoke(command, [str(ROLLOUTS), str(tmp_path / "l"), "--val", "0.5"])
    assert isinstance(done.exception, UsageError)
    assert "--val works with --to rlds only" in done.exception.message


def test_a_split_that_tfds_can_not_name_is_refused() -> None:
    sink = RldsSink(target=Path("x"), name="n", step_fields="rlds")
    made = episode(meta={"split": "../x"})
    with pytest.raises(DataError) as caught:
        sink.encode(made, Made({}).schema(made))
    assert caught.value.code == "E122"


def test_facts_of_any_source_are_json(tmp_path: Path) -> None:
    facts = {"seed": 3, "scene": {"name": "küche"}, "list": [1, [2]], "none": None}
    source = write(tmp_path, episode(meta={"episode_metadata": facts}), episode("f", 5))
    found = {ref.id: source.read(ref).meta.get("episode_metadata") for ref in source.episodes()}
    assert found == {"e": facts, "f": None}


def test_facts_of_unlike_types_are_fields_of_nobody(tmp_path: Path) -> None:
    made = [
        episode(meta={"episode_metadata": {"x": 1}, "episode_metadata_types": {"x": "int32"}}),
        episode("f", 5, meta={"episode_metadata": {"x": "a"}, "episode_metadata_types": {"x": "text"}}),
    ]
    write(tmp_path, *made)
    features = json.loads((tmp_path / "out/1.0.0/features.json").read_text())
    names = features["featuresDict"]["features"]["episode_metadata"]["featuresDict"]["features"]
    assert sorted(names) == ["file_path", "filtered_length", "original_length", "source", "source_metadata"]


@pytest.mark.parametrize(
    ("array", "code"),
    [(np.zeros((4, 2), np.complex64), "E203"), (np.asarray([b"a"] * 4), "E203")],
)
def test_arrays_that_rlds_can_not_hold_are_refused(array: Any, code: str) -> None:
    made = episode(arrays={"x": array})
    with pytest.raises(DataError) as caught:
        RldsSink(target=Path("x"), name="n", step_fields="rlds").encode(made, Made({}).schema(made))
    assert caught.value.code == code


def test_an_episode_without_an_action_is_refused() -> None:
    made = dataclasses.replace(episode(), arrays={"observation.state": np.zeros((4, 2), np.float32)})
    with pytest.raises(DataError, match="missing key 'action'"):
        RldsSink(target=Path("x"), name="n", step_fields="rlds").encode(made, Made({}).schema(made))


def test_names_that_exclude_each_other_stop_the_run(tmp_path: Path) -> None:
    made = episode(arrays={"observation.a": np.zeros(4), "observation.a.b": np.zeros(4)})
    with pytest.raises(UsageError) as caught:
        convert(Made({"e": made}), tmp_path / "x")
    assert caught.value.code == "E232"
    assert not (tmp_path / "x").exists()


def test_one_number_and_a_list_of_one_are_not_mixed(tmp_path: Path) -> None:
    made = [episode(arrays={"x": np.zeros(4)}), episode("f", 5, arrays={"x": np.zeros((5, 1))})]
    with pytest.raises(UsageError) as caught:
        convert(Made({e.id: e for e in made}), tmp_path / "x")
    assert caught.value.code == "E005"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["L", "RGBA", "16"]), st.randoms())
def test_depth_and_masks_are_lossless(steps: int, height: int, width: int, mode: str, random: Any) -> None:
    pick = np.random.default_rng(random.randrange(2**32))
    channels = 4 if mode == "RGBA" else 1
    dtype = np.uint16 if mode == "16" else np.uint8
    pixels = pick.integers(0, np.iinfo(dtype).max, (steps, height, width, channels), dtype=dtype, endpoint=True)
    assert rlds_images.is_plain_image(dtype.__name__, pixels.shape[1:])
    items = [memoryview(rlds_images.encode(image)) for image in pixels]
    found = rlds_images.decode_all(items, (None, None, channels), dtype.__name__, name="x")
    assert found.dtype == dtype
    assert np.array_equal(found, pixels)


def test_digest_tells_any_two_contents_apart() -> None:
    base = episode(
        arrays={"observation.x": np.asarray([1, 2, 3, 4], np.float32), "note": np.asarray(list("abcd"))}
    )
    other = [
        dataclasses.replace(base, task="do that"),
        dataclasses.replace(base, arrays={**base.arrays, "note": np.asarray(list("abce"))}),
        dataclasses.replace(base, arrays={**base.arrays, "observation.x": np.asarray([1, 2, 3, 5], np.float32)}),
        dataclasses.replace(base, arrays={**base.arrays, "task": np.asarray(["do it"] * 3 + ["x"])}),
        dataclasses.replace(base, arrays={**base.arrays, "next.terminated": np.zeros(4, bool)}),
    ]
    digests = {
        rlds_fields.content_of(e, list(e.arrays), {"c": [b"x"] * 4}).digest()
        for e in (base, *other, dataclasses.replace(base, arrays={**base.arrays, "y": np.zeros(4)}))
    }
    assert len(digests) == 7


# -- a second look --------------------------------------------------------------------------------------

LIES: dict[str, Callable[[Any], Any]] = {
    "steps/action": lambda a: np.roll(a, 7),
    "steps/observation/state": lambda a: a + 1,
    "steps/observation/depth": lambda items: items[::-1],
    "steps/observation/pose64": lambda items: items[::-1],
    "steps/observation/notes": lambda items: items[::-1],
    "steps/observation/image": lambda items: items[::-1],
    "steps/observation/label": lambda a: (a + 1) % 4,
    "steps/action_dict/joint": lambda items: items[::-1],
    "steps/language_embedding": lambda a: a[::-1].copy(),
    "steps/language_instruction": lambda items: items[::-1],
    "steps/is_first": lambda a: a[::-1].copy(),
    "steps/is_last": lambda a: a[::-1].copy(),
    "steps/is_terminal": lambda a: 1 - a,
    "steps/next/truncated": lambda a: 1 - a,
    "steps/reward": lambda a: a + 1,
    "steps/discount": lambda a: a + 1,
    "episode_metadata/source_metadata": lambda _: [b"{}"],
    "episode_metadata/number": lambda a: a + 1,
    "episode_metadata/weight": lambda a: a + 1,
    "episode_metadata/source_file_path": lambda _: [b"x"],
    "episode_metadata/filtered_length": lambda a: a + 1,
}


def _seal_again(folder: Path) -> None:
    names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != SEAL]
    (folder / "vla_data" / SEAL).write_bytes(format_sums({n: hash_file(folder / n) for n in names}))


@pytest.mark.parametrize("name", LIES)
def test_deep_finds_a_lie_in_every_field(written: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "1.0.0"
    shutil.copytree(written, folder)
    altered_records(folder / SHARD, {name: LIES[name]})
    _seal_again(folder)
    verdict = verify(folder, deep=True)
    assert SHARD in {damage.file for damage in verdict.damages}


@pytest.mark.parametrize("success", [None, [0, 0, 0, 0], [0, 0, 0, 1]])
@pytest.mark.parametrize("name", ["is_terminal", "reward", "discount"])
@pytest.mark.parametrize("at", [1, 3])
def test_deep_finds_a_lie_in_what_follows_from_a_rule(
    success: list[int] | None, name: str, at: int, tmp_path: Path
) -> None:
    if (success, name, at) == (None, "is_terminal", 3):
        return  # and its discount: an episode of unknown outcome may have been cut
    arrays = {} if success is None else {"next.success": np.asarray(success, bool)}
    write(tmp_path, episode(arrays=arrays))
    folder = tmp_path / "out/1.0.0"

    def lie(values: Any) -> Any:
        return np.where(np.arange(len(values)) == at, 1 - values, values).astype(values.dtype)

    altered_records(folder / SHARD, {f"steps/{name}": lie})
    _seal_again(folder)
    assert SHARD in {damage.file for damage in verify(folder, deep=True).damages}


def test_deep_is_content_with_what_was_written(written: Path) -> None:
    verdict = verify(written, deep=True)
    assert verdict.damages == ()
    assert verdict.checked["frames"] == 16


def test_the_split_of_published_episodes() -> None:
    sink = RldsSink(target=Path("x"), name="n", val_fraction=0.5)

    def published(name: str, content: str, **summary: Any) -> Published:
        return Published(name, content, summary, "", bytes)

    twins = [published("a", "1"), published("b", "1"), published("c", "2"), published("d", "2", split="test")]
    split = sink.split_of(twins)
    assert split["a"] == split["b"] != split["c"]
    assert split["d"] == "test"


def test_the_only_camera_is_called_image_and_gets_its_name_back(tmp_path: Path) -> None:
    source = write(tmp_path, episode())
    assert list(only(source).frames) == ["observation.images.top"]
    features = json.loads((tmp_path / "out/1.0.0/features.json").read_text())
    assert list(
        features["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"][
            "observation"
        ]["featuresDict"]["features"]
    ) == ["image"]


def test_a_record_in_anothers_place_is_noticed_by_the_source(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "1.0.0"
    shutil.copytree(written, folder)
    altered_records(folder / SHARD, {"episode_metadata/file_path": lambda _: [b"train/000009"]})
    source = RldsSource(root=folder)
    with pytest.raises(DataError, match="not that of the episode") as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E204"


def test_the_real_cut_is_there() -> None:
    assert sum(p.stat().st_size for p in REAL.rglob("*") if p.is_file()) < 300_000
