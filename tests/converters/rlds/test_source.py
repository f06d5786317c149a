"""The RLDS source against stock TFDS, number by number and byte by byte, on real and on made-up datasets."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.rlds import names as rlds_names
from converters.rlds import tfrecord
from converters.rlds import values as rlds_values
from converters.rlds.source import RldsSource
from tests import rlds_zoo
from tests.paths import SHARED, TESTS
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames

REAL = TESTS / "data/rlds"
CUT = REAL / "bridge_dataset/1.0.0"
WHOLE = SHARED / "rlds_bridge"


def bridge(root: Path = REAL, **options: Any) -> RldsSource:
    return RldsSource(root=root, fps=5, **{"allow_empty_instruction": True, **options})


def copy(folder: Path, *, info: Callable[[Any], None] = lambda _: None) -> Path:
    """A copy of the real cut with another ``dataset_info.json``."""
    shutil.copytree(CUT, folder)
    edit(folder / "dataset_info.json", info)
    return folder


def edit(path: Path, change: Callable[[Any], None]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("tensorflow_datasets")
    base = tmp_path_factory.getbasetemp() / "rlds_zoo"  # one for all test files
    if not base.exists():
        rlds_zoo.write(base)
    return base / "zoo/1.0.0"


def stock(folder: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(split, path below steps -> array or list of image bytes, path -> value of the episode) by TFDS."""
    tfds = pytest.importorskip("tensorflow_datasets")
    builder = tfds.builder_from_directory(str(folder))
    decoders = skip_cameras(tfds, builder.info.features["steps"].feature)
    for split in builder.info.splits:
        for episode in tfds.as_numpy(builder.as_dataset(split=split, decoders={"steps": decoders})):
            rows = [flat(step) for step in episode.pop("steps")]
            yield split, {path: [row[path] for row in rows] for path in rows[0]}, flat(episode)


def skip_cameras(tfds: Any, feature: Any) -> Any:
    """Decoders that leave 8-bit RGB images encoded."""
    found: dict[str, Any] = {}
    for key, inner in feature.items():
        if isinstance(inner, tfds.features.FeaturesDict):
            found[key] = skip_cameras(tfds, inner)
        elif isinstance(inner, tfds.features.Image) and inner.shape[-1] == 3:
            found[key] = tfds.decode.SkipDecoding()
    return {key: value for key, value in found.items() if value}


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        path: v for k, inner in tree.items() for path, v in flat(inner, f"{prefix}/{k}" if prefix else k).items()
    }


def assert_equal(source: RldsSource, folder: Path) -> int:
    """Every number, image byte, text and fact of every episode is what TFDS gives; returns how many steps."""
    steps = 0
    for ref, (split, want, facts) in zip(source.episodes(), stock(folder), strict=True):
        episode = source.read(ref)
        steps += len(episode)
        assert episode.meta["split"] == split
        seen = {"language_instruction", *rlds_names.POSITIONS}
        tasks = [text.decode() for text in want["language_instruction"]]
        assert list(episode.arrays.get("task", [episode.task] * len(episode))) == tasks
        for path, values in want.items():
            name = rlds_names.name_of(path, is_camera=False)
            camera = rlds_names.name_of(path, is_camera=True)
            if camera in episode.frames:
                assert list(episode.frames[camera].items) == values, path
            elif path not in seen:
                compare(episode.arrays[name], values, path)
        derived = {"next.truncated"} - {rlds_names.name_of(path, is_camera=False) for path in want}
        assert len(want) - len(seen) == len({*episode.arrays, *episode.frames} - {"task"} - derived)
        last = np.arange(len(episode)) == len(episode) - 1
        cut = last & np.asarray(want["is_last"]) & ~np.asarray(want["is_terminal"])
        assert np.array_equal(episode.arrays["next.truncated"], cut)
        for path, value in facts.items():
            found = episode.meta["episode_metadata"][path.removeprefix("episode_metadata/")]
            assert found == plain(value), path
        assert len(facts) == len(episode.meta["episode_metadata"])
    return steps


def compare(array: Any, values: list[Any], path: str) -> None:
    if array.dtype.kind == "U":
        assert list(array) == [value.decode() for value in values], path
        return
    want = np.stack([np.asarray(value) for value in values])
    if want.dtype == np.float16:  # float32 holds each of its values
        want = want.astype(np.float32)
    assert (array.dtype, array.shape) == (want.dtype, want.shape), path
    assert array.tobytes() == want.tobytes(), path


def plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, np.ndarray) and value.dtype == object:
        return [item.decode() for item in value]
    return np.asarray(value).tolist()


# -- equality with TFDS ---------------------------------------------------------------------------------


def test_every_number_and_image_byte_of_real_episodes_is_that_of_tfds() -> None:
    assert assert_equal(bridge(), CUT) == 18


@pytest.mark.skipif(not WHOLE.exists(), reason="needs ../shared")
def test_every_number_and_image_byte_of_the_whole_real_dataset_is_that_of_tfds() -> None:
    assert assert_equal(bridge(WHOLE), WHOLE / "bridge_dataset/1.0.0") == 500


def test_every_kind_of_feature_is_what_tfds_reads(zoo: Path) -> None:
    assert assert_equal(RldsSource(root=zoo, fps=5), zoo) == 16


def test_array_record_gives_the_same_episodes(zoo: Path, tmp_path: Path) -> None:
    module = pytest.importorskip("array_record.python.array_record_module")
    for path in zoo.iterdir():
        if ".tfrecord-" not in path.name:
            shutil.copy(path, tmp_path)
            continue
        target = tmp_path / path.name.replace(".tfrecord-", ".array_record-")
        writer = module.ArrayRecordWriter(str(target), "group_size:1")
        with path.open("rb") as file:
            for record in tfrecord.records(file, name="f"):
                writer.write(record)
        writer.close()
    edit(tmp_path / "dataset_info.json", lambda info: info.update(fileFormat="array_record"))
    one, other = RldsSource(root=zoo, fps=5), RldsSource(root=tmp_path, fps=5)
    assert [ref.id for ref in one.episodes()] == [ref.id for ref in other.episodes()]
    for a, b in zip(one.episodes(), other.episodes(), strict=True):
        assert one.fingerprint(a) == other.fingerprint(b)
        assert one.read(a).meta == other.read(b).meta
    edit(tmp_path / "dataset_info.json", lambda info: info["splits"][0].update(shardLengths=["2"]))
    with pytest.raises(UsageError, match="has") as caught:
        RldsSource(root=tmp_path, fps=5).episodes()
    assert caught.value.code == "E204"


def test_a_file_that_is_no_array_record_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("array_record")
    folder = copy(tmp_path / "d", info=lambda info: info.update(fileFormat="array_record"))
    for path in folder.glob("*.tfrecord-*"):
        path.rename(path.with_name(path.name.replace(".tfrecord-", ".array_record-")))
    with pytest.raises(UsageError) as caught:
        bridge(folder).episodes()
    assert caught.value.code in ("E105", "E204")


# -- what is read how -----------------------------------------------------------------------------------


def test_ids_places_and_fingerprints_are_those_of_the_records() -> None:
    source = bridge()
    refs = source.episodes()
    assert [ref.id for ref in refs] == ["train/000000", "train/000001", "val/000000"]
    for ref in refs:
        shard, offset, length = ref.where.split(":")
        data = (CUT / shard).read_bytes()[int(offset) : int(offset) + int(length)]
        assert ref.size == len(data) == int(length)
        assert source.fingerprint(ref) == hashlib.sha256(data).hexdigest()
        assert source.read(ref).meta["source_sha256"] == hashlib.sha256(data).hexdigest()


def test_the_folder_above_will_do_when_it_has_one_dataset(tmp_path: Path) -> None:
    assert [ref.id for ref in bridge(CUT).episodes()] == [ref.id for ref in bridge(REAL).episodes()]
    for name in "ab":
        copy(tmp_path / name / "1.0.0")
    with pytest.raises(UsageError, match=r"several datasets; name one of \S+/a/1\.0\.0, \S+/b/1\.0\.0") as caught:
        bridge(tmp_path).episodes()
    assert caught.value.code == "E001"
    with pytest.raises(UsageError) as caught:
        bridge(tmp_path / "nothing").episodes()
    assert caught.value.code == "E003"


def test_the_rate_must_be_declared() -> None:
    source = RldsSource(root=REAL)
    episode = source.read(source.episodes()[0])
    with pytest.raises(UsageError, match="--fps") as caught:
        source.schema(episode)
    assert caught.value.code == "E231"
    assert bridge().schema(episode).fps == 5


def test_splits_can_be_chosen() -> None:
    assert [ref.id for ref in bridge(splits=("val",)).episodes()] == ["val/000000"]
    with pytest.raises(UsageError, match="there is no split 'test'; known are train, val"):
        bridge(splits=("test",)).episodes()


def test_what_is_left_out_is_in_the_notes() -> None:
    source = bridge(leave_out=("steps/language_embedding", "episode_metadata/file_path"))
    episode = source.read(source.episodes()[0])
    assert "language_embedding" not in episode.arrays
    assert "file_path" not in episode.meta["episode_metadata"]
    assert set(episode.notes) >= {"left_out:steps/language_embedding", "left_out:episode_metadata/file_path"}
    with pytest.raises(UsageError, match="not a feature of the dataset"):
        bridge(leave_out=("steps/nothing",)).read(source.episodes()[0])


def test_positions_that_the_dataset_contradicts_are_kept_as_facts() -> None:
    """These real episodes were cut by somebody, and no step is marked as last."""
    episode = bridge().read(bridge().episodes()[0])
    assert episode.meta["recorded_positions"] == {"is_last": []}
    assert "is_last_differs_from_positions" in episode.notes
    assert not episode.arrays["next.truncated"].any()


def test_truncation_is_not_termination(zoo: Path) -> None:
    source = RldsSource(root=zoo, fps=5)
    for ref in source.episodes():
        episode = source.read(ref)
        ended = int(episode.task.split()[1]) % 2 == 1
        assert episode.arrays["next.terminated"].tolist() == [False] * (len(episode) - 1) + [ended]
        assert episode.arrays["next.truncated"].tolist() == [False] * (len(episode) - 1) + [not ended]


def test_instructions_are_found_declared_or_asked_for(zoo: Path, tmp_path: Path) -> None:
    def rename(tree: Any) -> None:
        step = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        step.pop("language_instruction")

    declared = RldsSource(root=zoo, fps=5, instruction="observation/notes")
    episode = declared.read(declared.episodes()[0])
    assert episode.task == "Schritt 0 · 步 0"
    assert list(episode.arrays["language_instruction"]) == [f"put 0 on {t // 4}" for t in range(5)]
    assert episode.meta["instruction_feature"] == "observation/notes"
    folder = copy(tmp_path / "d")
    edit(folder / "features.json", rename)
    with pytest.raises(UsageError, match="say which one is it") as caught:
        bridge(folder).read(bridge(folder).episodes()[0])
    assert caught.value.code == "E231"
    without = bridge(folder, instruction="")
    assert without.read(without.episodes()[0]).task == ""
    assert "not_declared:steps/language_instruction" in without.read(without.episodes()[0]).notes
    with pytest.raises(UsageError, match="not a text of each step"):
        bridge(folder, instruction="action").read(bridge(folder).episodes()[0])


def test_an_empty_instruction_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")
    rewrite(folder, "steps/language_instruction", [b""] * 6)
    source = bridge(folder, allow_empty_instruction=False)
    with pytest.raises(DataError) as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E211"
    assert caught.value.frames == 6
    assert bridge(folder).read(source.episodes()[0]).task == ""


def rewrite(folder: Path, name: str, value: Any) -> None:
    """Change one feature of the first record of ``train``."""
    altered_records(folder / "bridge_dataset-train.tfrecord-00000-of-00001", {name: lambda _: value})


def altered_records(file: Path, changes: dict[str, Callable[[Any], Any]]) -> None:
    """Change features of the first record of a shard; checksums are right again."""
    records = list(tfrecord.records(io.BytesIO(file.read_bytes()), name="f"))
    features = values_of(records[0])
    for name, change in changes.items():
        features[name] = change(features[name])
    records[0] = b"".join(bytes(piece) for piece in tfrecord.example(features))
    file.write_bytes(b"".join(bytes(p) for record in records for p in tfrecord.frame([record])))


def values_of(record: bytes) -> dict[str, Any]:
    from converters.rlds.check import parse_example

    return parse_example(record)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("steps/action", np.full(42, np.nan, np.float32), "E201"),
        ("steps/observation/state", np.full(42, np.inf, np.float32), "E201"),
        ("steps/action", np.zeros(41, np.float32), "E204"),
        ("steps/action", np.zeros(35, np.float32), "E204"),
        ("steps/action", np.zeros(42, np.int64), "E203"),
        ("steps/action", [b"x"] * 42, "E203"),
        ("steps/is_last", np.full(6, 2, np.int64), "E202"),
        ("steps/reward", np.zeros(0, np.float32), "E204"),
        ("steps/language_instruction", [b"\xff\xfe"] * 6, "E212"),
        ("steps/language_instruction", [b"a\0"] * 6, "E212"),
        ("steps/language_instruction", [b"a\x1b[2J"] * 6, "E212"),
        ("steps/language_instruction", [b"a" * 70_000] * 6, "E212"),
        ("steps/observation/image_0", [b""] * 6, "E109"),
        ("steps/observation/image_0", [b"\xff\xd8\xff\xd9"] * 6, "E109"),
        ("episode_metadata/episode_id", np.asarray([2**40], np.int64), "E202"),
        ("episode_metadata/episode_id", np.asarray([1, 2], np.int64), "E203"),
    ],
)
def test_one_bad_episode_is_one_bad_episode(tmp_path: Path, name: str, value: Any, code: str) -> None:
    folder = copy(tmp_path / "d")
    rewrite(folder, name, value)
    source = bridge(folder)
    bad, *good = source.episodes()
    with pytest.raises(DataError) as caught:
        source.read(bad)
    assert caught.value.code == code
    assert "\n" not in caught.value.message
    assert caught.value.source_sha256 == source.fingerprint(bad)
    assert [len(source.read(ref)) for ref in good] == [6, 6]


def test_a_feature_that_the_record_lacks_is_named(tmp_path: Path) -> None:
    folder = copy(tmp_path / "d")

    def more(tree: Any) -> None:
        step = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
        step["more"] = dict(step["reward"])

    edit(folder / "features.json", more)
    with pytest.raises(DataError, match="lacks steps/more") as caught:
        bridge(folder).read(bridge(folder).episodes()[0])
    assert caught.value.code == "E206"


def test_lists_that_differ_in_length_are_named(zoo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "z"
    shutil.copytree(zoo, folder)
    lengths = np.asarray([3, 3, 4, 2, 3], np.int64)
    altered_records(
        next(folder.glob("*train.tfrecord*")), {"steps/points/ragged_row_lengths_0": lambda _: lengths}
    )
    source = RldsSource(root=folder, fps=5)
    with pytest.raises(DataError, match="lists of steps/points differ in length") as caught:
        source.read(source.episodes()[0])
    assert caught.value.code == "E203"
    without = RldsSource(root=folder, fps=5, leave_out=("steps/points",))
    assert len(without.read(without.episodes()[0])) == 5


@pytest.mark.parametrize(
    ("path", "camera", "name"),
    [
        ("observation/image", True, "observation.images.image"),
        ("observation/wrist/left", True, "observation.images.wrist.left"),
        ("observation/image", False, "observation.image"),
        ("image", True, "image"),
        ("action", False, "action"),
        ("action_dict/joint", False, "action.joint"),
        ("action/joint", False, "action.joint"),
        ("reward", False, "next.reward"),
        ("is_terminal", False, "next.terminated"),
        ("next/success", False, "next.success"),
        ("language_embedding", False, "language_embedding"),
    ],
)
def test_names(path: str, camera: bool, name: str) -> None:
    assert rlds_names.name_of(path, is_camera=camera) == name


def test_the_rule_of_names_has_an_inverse() -> None:
    arrays = ["action", "action.joint", "observation.state", "observation.a.b", "next.reward", "next.success", "x"]
    cameras = ["observation.images.top", "observation.images.wrist.left"]
    paths = rlds_names.paths_of(arrays, cameras)
    assert {name: rlds_names.name_of(path, is_camera=name in cameras) for name, path in paths.items()} == {
        name: name for name in paths
    }
    assert rlds_names.paths_of(["action.x"], [])["action.x"] == "action/x"
    assert rlds_names.paths_of([], ["observation.images.top"]) == {"observation.images.top": "observation/image"}


@pytest.mark.parametrize(
    "names",
    [
        ["observation.a", "observation.a.b"],
        ["reward"],
        ["reward", "next.reward"],
        ["is_first"],
        ["language_instruction"],
        ["a..b"],
        ["a/b"],
    ],
)
def test_names_that_can_not_be_in_one_record_are_refused(names: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        rlds_names.paths_of(names, [])
    assert caught.value.code == "E232"


def test_texts_that_numpy_would_blow_up_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        rlds_values.text_array(["x" * 1_000_000, *["y"] * 1000], "steps/x")
    assert caught.value.code == "E107"


def test_images_stay_encoded() -> None:
    episode = bridge().read(bridge().episodes()[0])
    frames = episode.frames["observation.images.image_0"]
    assert isinstance(frames, Frames)
    assert all(isinstance(item, bytes) and item[:2] == b"\xff\xd8" for item in frames.items)
    assert (frames.height, frames.width) == (64, 64)
