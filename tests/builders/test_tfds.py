"""The TFDS dataset: what stock TFDS reads from it, and `tfds build`, the second door to it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.ppo_sft_aligned.definition import Definition
from converters.rlds import tfrecord
from converters.rlds.sink import RldsSink
from tests.paths import ROOT
from tests.rollouts import rollout, save
from vla_data.core import Published
from vla_data.errors import TargetExistsError, UsageError, VerifyError, VlaDataError
from vla_data.formats.sidecar import open_ledger
from vla_data.media import images

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")
tfds = pytest.importorskip("tensorflow_datasets")

from builders.ppo_sft_aligned.ppo_sft_aligned_dataset_builder import (  # noqa: E402
    Builder,
    PpoSftAlignedConfig,
)
from training_adapters.tfds.gate import read_back  # noqa: E402

ENCODED = {"steps": {"observation": {"image": tfds.decode.SkipDecoding()}}}
RLDS = ("is_first", "is_last", "is_terminal", "reward", "discount")


# --- datasets to look at ---------------------------------------------------------------------------------


def write_rollouts(folder: Path, episodes: Mapping[str, dict[str, Any]]) -> Path:
    for name, data in episodes.items():
        save(folder, name, data)
    return folder


@pytest.fixture(scope="session")
def episodes() -> dict[str, dict[str, Any]]:
    """Eight rollouts, all solved and cut after six successes: of ten steps, eight are left."""
    names = [f"env/ep_{i}.npz" for i in range(7)] + ["env/épisode ß.npy"]
    texts = ["put carrot on plate", "Öffne die Schublade", "勺子放在毛巾上 🥄"]
    actions = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 10, 7)).astype(np.float32)
    actions[..., 6] = 1
    return {
        name: rollout(actions=actions[i], seed=i, images="jpeg" if i % 2 else "arrays", instruction=texts[i % 3])
        for i, name in enumerate(names)
    }


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory, episodes: dict[str, dict[str, Any]]) -> Path:
    return write_rollouts(tmp_path_factory.mktemp("rollouts"), episodes)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TFDS data dir for `build`."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def build(data: Path, rollouts: Path) -> Callable[..., Path]:
    """Build the dataset with some options, once for each choice of them; returns its folder."""

    def made(*, source: Path = rollouts, num_shards: int | None = None, **options: Any) -> Path:
        definition = Definition(options)
        folder = definition.folder(data / f"{source.name}-{num_shards}")
        if not folder.exists():
            definition.build(source, folder, num_shards=num_shards, workers=1)
        return folder

    return made


@pytest.fixture(scope="session")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rollouts of RL4VLA's size, 480x640."""
    folder = tmp_path_factory.mktemp("full_size")
    flat = np.full((8, 480, 640, 3), 90, np.uint8)
    return write_rollouts(folder, {f"{i}.npz": {**rollout(8, seed=i), "image": flat + i} for i in range(2)})


def read(folder: Path, split: str = "all", **options: Any) -> list[Any]:
    builder = tfds.builder_from_directory(str(folder))
    return [
        {**episode, "steps": list(episode["steps"])}
        for episode in tfds.as_numpy(builder.as_dataset(split=split, **options))
    ]


def read_by_name(folder: Path, split: str = "all", **options: Any) -> dict[str, Any]:
    return {name_of(episode): episode for episode in read(folder, split, **options)}


def name_of(episode: Any) -> str:
    name: str = episode["episode_metadata"]["file_path"].decode()
    return name


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- features.json and dataset_info.json -----------------------------------------------------------------


def reference_features(
    size: tuple[int, int], *, rlds: bool = False, full: bool = True, state: int | None = None
) -> Any:
    """RL4VLA's spec (``step_fields`` and ``metadata`` of ours beside it), in TFDS's own words."""
    step: dict[str, Any] = {
        "observation": {"image": tfds.features.Image(shape=(*size, 3), dtype=np.uint8, encoding_format="jpeg")},
        "action": tfds.features.Tensor(shape=(7,), dtype=np.float32),
        "language_instruction": tfds.features.Text(),
    }
    if rlds:
        step |= {name: tfds.features.Scalar(dtype=np.bool_) for name in RLDS[:3]}
        step |= {name: tfds.features.Scalar(dtype=np.float32) for name in RLDS[3:]}
        step["next"] = {"success": tfds.features.Scalar(dtype=np.bool_)}
        if state:
            step["observation"]["state"] = tfds.features.Tensor(shape=(state,), dtype=np.float32)
    metadata: dict[str, Any] = {"file_path": tfds.features.Text()}
    if full:
        metadata["source"] = tfds.features.Text()
        metadata |= dict.fromkeys(("original_length", "filtered_length"), tfds.features.Scalar(dtype=np.int32))
        if rlds:
            metadata["source_metadata"] = tfds.features.Text()
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step), "episode_metadata": metadata})


def without_descriptions(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_descriptions(item) for key, item in value.items() if key != "description"}
    return value


@pytest.mark.parametrize(
    ("options", "spec"),
    [
        ({}, {}),
        ({"metadata": "rl4vla"}, {"full": False}),
        ({"step_fields": "rlds"}, {"rlds": True}),
        ({"step_fields": "rlds", "metadata": "rl4vla"}, {"rlds": True, "full": False}),
    ],
)
def test_features_are_what_tfds_writes(
    build: Callable[..., Path], tmp_path: Path, options: dict[str, Any], spec: dict[str, Any]
) -> None:
    folder = build(**options)
    want = reference_features((24, 32), **spec)
    want.save_config(str(tmp_path))
    got = json.loads((folder / "features.json").read_text())
    assert without_descriptions(got) == json.loads((tmp_path / "features.json").read_text())
    assert got != without_descriptions(got)
    parsed = tfds.builder_from_directory(str(folder)).info.features
    assert repr_plain(parsed) == repr_plain(want)
    assert parsed.get_tensor_spec() == want.get_tensor_spec()
    assert parsed.get_serialized_info() == want.get_serialized_info()


def repr_plain(features: Any) -> Any:
    return without_descriptions(json.loads(json.dumps(features.to_json())))


def test_rl4vlas_own_size(build: Callable[..., Path], full_size: Path) -> None:
    folder = build(source=full_size, metadata="rl4vla")
    info = tfds.builder_from_directory(str(folder)).info
    assert repr_plain(info.features) == repr_plain(reference_features((480, 640), full=False))
    assert read(folder)[0]["steps"][0]["observation"]["image"].shape == (480, 640, 3)


def test_state_is_in_the_rlds_fields(build: Callable[..., Path], tmp_path: Path) -> None:
    states = [np.random.default_rng(i).normal(size=(9, 8)).astype(np.float32) for i in range(2)]
    source = write_rollouts(
        tmp_path / "with_state", {f"{i}.npz": {**rollout(8, seed=i), "state": states[i]} for i in range(2)}
    )
    folder = build(source=source, step_fields="rlds")
    features = tfds.builder_from_directory(str(folder)).info.features
    assert repr_plain(features) == repr_plain(reference_features((24, 32), rlds=True, state=8))
    for i, episode in enumerate(read_by_name(folder)[f"{i}.npz"] for i in range(2)):
        np.testing.assert_array_equal([s["observation"]["state"] for s in episode["steps"]], states[i][:8])
    assert "state" not in read(build(source=source))[0]["steps"][0]["observation"]


def stock_builder(features: Any, splits: Mapping[str, Sequence[Any]]) -> Any:
    """A dataset builder as people write them for TFDS, with these episodes."""

    class Stock(tfds.core.GeneratorBasedBuilder):
        name = "ppo_sft_aligned"
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager: Any) -> Any:
            del dl_manager
            return {name: self._generate_examples(part) for name, part in splits.items()}

        def _generate_examples(self, part: Sequence[Any]) -> Iterator[Any]:
            for episode in part:
                yield name_of(episode), episode

    return Stock


@pytest.fixture
def stock(tmp_path: Path) -> Callable[..., Any]:
    def make(features: Any, splits: Mapping[str, Sequence[Any]], **download: Any) -> Any:
        with tfds.core.registered.skip_registration():
            builder = stock_builder(features, splits)(data_dir=str(tmp_path / "stock"))
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**download))
        return builder

    return make


@pytest.mark.parametrize("shards", [None, 2])
def test_dataset_info_is_what_tfds_writes(
    build: Callable[..., Path], stock: Callable[..., Any], shards: int | None
) -> None:
    folder = build(num_shards=shards, step_fields="rlds", val_fraction=0.5)
    parts = {split: read(folder, split, decoders=ENCODED) for split in ("train", "val")}
    theirs = Path(stock(reference_features((24, 32), rlds=True), parts, num_shards=shards).data_dir)
    got, want = (json.loads((path / "dataset_info.json").read_text()) for path in (folder, theirs))
    for info in (got, want):  # how many episodes go to which shard is a choice
        for split in info["splits"]:
            split["shardLengths"] = [len(split["shardLengths"]), sum(map(int, split["shardLengths"]))]
    for key in ("name", "version", "fileFormat", "splits"):
        assert got[key] == want[key]
    assert got.keys() - want.keys() <= {"configName", "description"}
    assert {p.name for p in folder.glob("*.tfrecord-*")} == {p.name for p in theirs.glob("*.tfrecord-*")}
    info = tfds.builder_from_directory(str(folder)).info
    assert info.dataset_size == sum(p.stat().st_size for p in folder.glob("*.tfrecord-*")) - tfrecord.FRAME * 8


# --- reading ---------------------------------------------------------------------------------------------


def test_splits_shards_and_slices(build: Callable[..., Path], episodes: dict[str, Any]) -> None:
    folder = build(num_shards=3)
    info = tfds.builder_from_directory(str(folder)).info
    assert info.full_name == "ppo_sft_aligned/default/1.0.0"
    assert list(info.splits) == ["train", "val"]
    assert info.splits["train"].num_shards == 3
    train, val = (list(map(name_of, read(folder, split))) for split in ("train", "val"))
    assert (info.splits["train"].num_examples, info.splits["val"].num_examples) == (len(train), len(val))
    assert sorted(train + val) == sorted(episodes)
    ledger = {record.id: record.split for record in open_ledger(folder).records}
    assert ledger == {**dict.fromkeys(train, "train"), **dict.fromkeys(val, "val")}
    half = round(len(train) / 2)
    assert list(map(name_of, read(folder, "train[:50%]"))) == train[:half]
    assert list(map(name_of, read(folder, "train[50%:]"))) == train[half:]
    assert list(map(name_of, read(folder, "train[2:5]"))) == train[2:5]
    assert list(map(name_of, read(build(), "train"))) == train


def test_tfds_finds_a_config_by_name(build: Callable[..., Path]) -> None:
    folder = build(step_fields="rlds")
    builder = tfds.builder("ppo_sft_aligned/rlds", data_dir=str(folder.parents[2]))
    assert builder.data_dir == str(folder)
    assert builder.info.splits.total_num_examples == 8


def test_tfds_finds_the_default_config_without_its_name(build: Callable[..., Path]) -> None:
    folder = build()
    marker = folder.parents[1] / ".config/metadata.json"
    assert json.loads(marker.read_text()) == {"default_config_name": "default"}


def test_content_is_that_of_the_rollouts(build: Callable[..., Path], episodes: dict[str, Any]) -> None:
    found = read_by_name(build(), decoders=ENCODED)
    decoded = read_by_name(build())
    assert found.keys() == episodes.keys()
    for name, source in episodes.items():
        steps = found[name]["steps"]
        assert len(steps) == 8
        for t, step in enumerate(steps):
            image = source["image"][t]
            if image.ndim == 1:  # JPEG in the rollout: not one byte is touched
                assert step["observation"]["image"] == image.tobytes()
            else:
                assert step["observation"]["image"] == images.encode(image, "jpeg", quality=95)
            assert step["action"].tobytes() == source["action"][t].tobytes()
            assert step["action"].dtype == np.float32
            assert step["language_instruction"].decode() == source["instruction"]
            pixels = decoded[name]["steps"][t]["observation"]["image"]
            want = tf.io.decode_jpeg(step["observation"]["image"]).numpy()
            np.testing.assert_array_equal(pixels, want)
        assert found[name]["episode_metadata"] == {
            "file_path": name.encode(),
            "source": b"ppo_rollout",
            "original_length": 10,
            "filtered_length": 8,
        }


def test_rlds_fields(tmp_path: Path, build: Callable[..., Path]) -> None:
    cases = {
        "solved.npz": [0, 1, 1, 1, 1],
        "cut_by_time.npz": [0, 0, 0, 0, 0],
        "lost_again.npz": [0, 1, 1, 1, 0],
        "short.npz": [1],
    }
    source = write_rollouts(
        tmp_path / "rlds", {name: rollout(success=flags, seed=len(name)) for name, flags in cases.items()}
    )
    found = read_by_name(build(source=source, step_fields="rlds", min_success_steps=0))
    assert found.keys() == cases.keys()
    for name, flags in cases.items():
        steps = found[name]["steps"]
        n, solved = len(flags), bool(flags[-1])
        assert len(steps) == n
        columns = {key: [step[key].item() for step in steps] for key in RLDS}
        assert columns == {
            "is_first": [True] + [False] * (n - 1),
            "is_last": [False] * (n - 1) + [True],
            "is_terminal": [False] * (n - 1) + [solved],
            "reward": [0.0] * (n - 1) + [float(solved)],
            "discount": [1.0] * (n - 1) + [1.0 - solved],
        }, name


def test_bytes_do_not_depend_on_process_or_workers(tmp_path: Path, rollouts: Path) -> None:
    found = []
    for seed, workers in (("1", "1"), ("2", "2")):
        command = [sys.executable, "-m", "vla_data", "build", "ppo_sft_aligned", "--input", str(rollouts)]
        subprocess.run(
            [*command, "--data-dir", str(tmp_path / seed), "--workers", workers, "--json"],
            check=True,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        found.append(hashes(tmp_path / seed))
    assert found[0] == found[1]
    assert any("tfrecord" in name for name in found[0])


# --- together with RL4VLA's own datasets -----------------------------------------------------------------


@pytest.fixture
def original(stock: Callable[..., Any]) -> Any:
    """A dataset built with RL4VLA's own feature spec by stock TFDS."""

    def episode(name: str) -> Any:
        image = np.full((480, 640, 3), 7, np.uint8)
        step = {
            "observation": {"image": image},
            "action": np.ones(7, np.float32),
            "language_instruction": "put the original on the plate",
        }
        return {"steps": [step] * 3, "episode_metadata": {"file_path": name.encode()}}

    parts = {"train": [episode("a.npz"), episode("b.npz")], "val": [episode("c.npz")]}
    return stock(reference_features((480, 640), full=False), parts)


def test_concatenate_episodes(build: Callable[..., Path], full_size: Path, original: Any) -> None:
    aligned = tfds.builder_from_directory(str(build(source=full_size, metadata="rl4vla")))
    both = original.as_dataset(split="train").concatenate(aligned.as_dataset(split="train"))
    names = [name_of(episode) for episode in tfds.as_numpy(both)]
    assert set(names[:2]) == {"a.npz", "b.npz"}
    assert names[2:] == [name_of(episode) for episode in read(Path(aligned.data_dir), "train")]


def test_concatenate_episodes_with_all_metadata(
    build: Callable[..., Path], full_size: Path, original: Any
) -> None:
    aligned = tfds.builder_from_directory(str(build(source=full_size)))
    with pytest.raises((TypeError, ValueError)):
        original.as_dataset(split="train").concatenate(aligned.as_dataset(split="train"))
    only = tfds.decode.PartialDecoding({"steps": True, "episode_metadata": {"file_path": True}})
    both = original.as_dataset(split="train").concatenate(aligned.as_dataset(split="train", decoders=only))
    found = list(tfds.as_numpy(both))
    assert len(found) == 3
    assert [len(list(episode["steps"])) for episode in found] == [3, 3, 8]


def test_concatenate_steps(build: Callable[..., Path], full_size: Path, original: Any) -> None:
    aligned = tfds.builder_from_directory(str(build(source=full_size)))
    sets = [b.as_dataset(split="train").flat_map(lambda episode: episode["steps"]) for b in (original, aligned)]
    steps = list(tfds.as_numpy(sets[0].concatenate(sets[1])))
    assert len(steps) == 2 * 3 + 8
    assert {step["observation"]["image"].shape for step in steps} == {(480, 640, 3)}
    assert steps[-1]["language_instruction"] == b"put carrot on plate"


# --- the gate --------------------------------------------------------------------------------------------


def test_read_back_passes_on_every_variant(build: Callable[..., Path], full_size: Path) -> None:
    for folder in (build(), build(num_shards=3), build(step_fields="rlds"), build(source=full_size)):
        result = read_back(folder)
        kept = {record.id: record.frames("kept") for record in open_ledger(folder).records}
        assert sum(part["episodes"] for part in result["splits"].values()) == len(kept)
        assert sum(part["frames"] for part in result["splits"].values()) == sum(kept.values())
        assert "all as recorded" in result["lines"][0]


def tamper(folder: Path, change: Callable[[list[bytes], list[bytes]], tuple[list[bytes], list[bytes]]]) -> None:
    """Change the records of train and val behind the ledger's back, with right checksums and counts."""
    files = [folder / f"ppo_sft_aligned-{split}.tfrecord-00000-of-00001" for split in ("train", "val")]
    parts = change(*(list(tfrecord.records(io.BytesIO(file.read_bytes()), name="f")) for file in files))
    info = json.loads((folder / "dataset_info.json").read_text())
    for file, part, split in zip(files, parts, info["splits"], strict=True):
        file.write_bytes(b"".join(piece for record in part for piece in tfrecord.frame([record])))
        split["shardLengths"] = [str(len(part))]
    (folder / "dataset_info.json").write_text(json.dumps(info))


def edited(record: bytes, edit: Callable[[Any], None]) -> bytes:
    example = tf.train.Example.FromString(record)
    edit(example.features.feature)
    data: bytes = example.SerializeToString(deterministic=True)
    return data


def renamed(record: bytes, like: bytes) -> bytes:
    other = tf.train.Example.FromString(like).features.feature["episode_metadata/file_path"]
    return edited(record, lambda feature: feature["episode_metadata/file_path"].CopyFrom(other))


def other_action(feature: Any) -> None:
    feature["steps/action"].float_list.value[9] += 1e-3


def other_image(feature: Any) -> None:
    values = feature["steps/observation/image"].bytes_list.value
    values[2], values[3] = values[3], values[2]


def small_image(feature: Any) -> None:
    values = feature["steps/observation/image"].bytes_list.value
    values[2] = images.encode(np.zeros((24, 33, 3), np.uint8), "jpeg")


def no_image(feature: Any) -> None:
    feature["steps/observation/image"].bytes_list.value[2] = b"no image"


def other_text(feature: Any) -> None:
    feature["steps/language_instruction"].bytes_list.value[3] = b"drop it"


def nan_action(feature: Any) -> None:
    feature["steps/action"].float_list.value[9] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda train, val: (train[1:], val), "missing"),
        (lambda train, val: ([*train[:-1], train[0]], val), "twice"),
        (lambda train, val: ([*train[1:], val[0]], [train[0]]), "against the ledger"),
        (lambda train, val: ([*train, *val], []), "against the ledger"),
        (
            lambda train, val: ([renamed(train[0], train[1]), renamed(train[1], train[0]), *train[2:]], val),
            "other content",
        ),
        *(
            (lambda train, val, edit=edit: ([edited(train[0], edit), *train[1:]], val), message)
            for edit, message in (
                (other_action, "other content"),
                (other_image, "other content"),
                (other_text, "other content"),
                (small_image, "no image"),
                (no_image, "no image"),
                (nan_action, "not finite"),
            )
        ),
    ],
)
def test_read_back_notices(build: Callable[..., Path], tmp_path: Path, change: Any, message: str) -> None:
    folder = shutil.copytree(build(), tmp_path / "1.0.0")
    tamper(folder, change)
    with pytest.raises(VerifyError, match=message) as caught:
        read_back(folder)
    assert caught.value.code == "E601"
    assert "\n" not in str(caught.value)


def test_read_back_notices_damage(build: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(build(), tmp_path / "1.0.0")
    shard = folder / "ppo_sft_aligned-train.tfrecord-00000-of-00001"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(VerifyError, match="can't read"):
        read_back(folder)
    shard.unlink()
    with pytest.raises(VerifyError, match="can't read"):
        read_back(folder)


# --- splits ----------------------------------------------------------------------------------------------


def sink(val_fraction: float = 0.05) -> RldsSink:
    return RldsSink(target=Path("nowhere"), name="d", val_fraction=val_fraction)


def named(ids: list[str]) -> dict[str, str]:
    """Ids with contents that all differ."""
    return {name: f"content of {name}" for name in ids}


def split_of(contents: dict[str, str], fraction: float = 0.05) -> dict[str, str]:
    """Id -> split, from id -> content."""
    episodes = [Published(name, content, {}, "", bytes) for name, content in contents.items()]
    return sink(fraction).split_of(episodes)


def test_equal_contents_are_in_one_split() -> None:
    ids = named([f"env/ep_{i:03d}.npz" for i in range(100)])
    twins = {f"again/{name}": content for name, content in ids.items()}
    split = split_of({**ids, **twins})
    assert [split[name] for name in ids] == [split[name] for name in twins]


IDS = st.lists(st.text(min_size=1, max_size=12), unique=True, max_size=40)


@settings(max_examples=200, deadline=None)
@given(IDS, IDS, st.sampled_from([0.05, 0.2, 0.5]))
def test_a_split_does_not_depend_on_other_episodes(few: list[str], more: list[str], fraction: float) -> None:
    all_ids = sorted({*few, *more})
    small, large = split_of(named(few), fraction), split_of(named(all_ids), fraction)
    anchors = [f"anchor {i}" for i in range(200)]
    alone = {name: split_of(named([name, *anchors]), fraction)[name] for name in few[:5]}
    # An episode changes only where one of the splits would have been empty.
    assert sum(small[name] != large[name] for name in few) <= 1 + (len(few) < 2)
    assert sum(alone[name] != large[name] for name in few[:5]) <= 1
    assert split_of(named(few[::-1]), fraction) == small
    for split in (small, large):
        if len(split) > 1:
            assert set(split.values()) == {"train", "val"}
        elif split:
            assert set(split.values()) == {"train"}


def test_splits_are_the_same_on_every_machine_and_in_every_release() -> None:
    split = split_of(named([f"env/ep_{i:03d}.npz" for i in range(100)]))
    assert [i for i, part in enumerate(split.values()) if part == "val"] == VAL_OF_100


VAL_OF_100 = [18, 31, 34, 47, 88]


def test_no_val_split_when_none_is_wanted() -> None:
    assert set(split_of(named(["a", "b", "c"]), 0).values()) == {"train"}


# --- Builder as an API -----------------------------------------------------------------------------------


def from_rollouts(folder: Path, **options: Any) -> Any:
    return tfds.download.DownloadConfig(manual_dir=str(folder), **options)


def test_builder_builds_and_reads_in_one_process(
    tmp_path: Path, rollouts: Path, build: Callable[..., Path]
) -> None:
    builder = Builder(data_dir=tmp_path, config=PpoSftAlignedConfig(min_success_steps=3))
    assert builder.info.features["steps"]["observation"]["image"].shape == (480, 640, 3)
    assert repr_plain(builder.info.features) == repr_plain(reference_features((480, 640)))
    builder.download_and_prepare(download_config=from_rollouts(rollouts))
    assert builder.report.exit_code == 0
    assert builder.info.features["steps"]["observation"]["image"].shape == (24, 32, 3)
    assert builder.info.splits.total_num_examples == 8
    episode = next(iter(builder.as_dataset(split="train")))
    assert next(iter(episode["steps"]))["observation"]["image"].shape == (24, 32, 3)
    assert hashes(Path(builder.data_dir)) == hashes(build(min_success_steps=3))
    again = Builder(data_dir=tmp_path, config=PpoSftAlignedConfig(min_success_steps=3))
    assert again.info.features["steps"]["observation"]["image"].shape == (24, 32, 3)
    again.download_and_prepare(download_config=from_rollouts(rollouts))
    assert again.report.counts == builder.report.counts


def test_builder_publishes_despite_a_bad_episode_and_never_exits(tmp_path: Path, rollouts: Path) -> None:
    source = shutil.copytree(rollouts, tmp_path / "source")
    (source / "env/ep_0.npz").write_bytes(b"PK no zip")
    for _ in range(2):  # built, then reused
        builder = Builder(data_dir=tmp_path / "data")
        builder.download_and_prepare(download_config=from_rollouts(source))
        assert builder.report.exit_code == 3
        assert builder.info.splits.total_num_examples == 7


def test_builder_raises_and_keeps_what_is_there(tmp_path: Path, rollouts: Path, full_size: Path) -> None:
    def make(source: Path, **options: Any) -> None:
        Builder(data_dir=tmp_path).download_and_prepare(download_config=from_rollouts(source, **options))

    make(full_size)
    before = hashes(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    for source, options in ((rollouts, {}), (full_size, {"max_examples_per_split": 1})):
        with pytest.raises(TargetExistsError) as caught:
            make(source, **options)
        assert caught.value.code == "E412"
    (full_size / "extra.npz").symlink_to(full_size / "0.npz")
    try:
        with pytest.raises(TargetExistsError):
            make(full_size)
    finally:
        (full_size / "extra.npz").unlink()
    mode = tfds.download.GenerateMode.REUSE_CACHE_IF_EXISTS
    for source in (empty, tmp_path / "gone"):
        with pytest.raises(VlaDataError, match=r"E402|E003"):
            make(source, download_mode=mode)
    assert hashes(tmp_path) == before
    make(rollouts, download_mode=mode)
    assert hashes(tmp_path) != before


@pytest.mark.parametrize(
    "options",
    [
        {"nope": 1},
        {"pos_thresh": -1},
        {"pos_thresh": "abc"},
        {"val_fraction": 1},
        {"image_size": 5},
        {"compat": "foo"},
        {"name": "../x"},
        {"name": "1.0.0"},
        {"name": "default", "pos_thresh": None},
        {"name": "rlds"},
        {"name": 3},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        PpoSftAlignedConfig(**options)
    assert caught.value.code == "E001"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"step_fields": "foo"},
        {"metadata": "foo"},
        {"success_rule": "foo"},
        {"info_timing": "foo"},
        {"allow_images": ["foo"]},
        {"min_success_steps": -3},
        {"min_success_steps": 2.5},
        {"fps": -1},
        {"max_episodes": -1},
        {"max_episodes": "a"},
        {"jpeg_quality": 1000},
        {"gripper_hysteresis": [1, 0]},
        {"gripper_hysteresis": [1, 2, 3]},
        {"initial_gripper": "x"},
        {"action_limit": "x"},
        {"allow_empty_instruction": "no"},
        {"image_size": ["a", "b"]},
    ],
)
def test_wrong_values_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        PpoSftAlignedConfig(**options)


def test_default_options_are_the_default_config_whatever_they_are_called(tmp_path: Path) -> None:
    for config in (None, "default", PpoSftAlignedConfig(), PpoSftAlignedConfig(name="default", action_limit=100)):
        assert Builder(data_dir=tmp_path, config=config).info.full_name == "ppo_sft_aligned/default/1.0.0"
    for config in ("rlds", PpoSftAlignedConfig(step_fields="rlds")):
        assert Builder(data_dir=tmp_path, config=config).info.full_name == "ppo_sft_aligned/rlds/1.0.0"


def test_what_would_not_be_done_is_refused(tmp_path: Path, rollouts: Path) -> None:
    for options in ({"beam_runner": "x"}, {"max_shard_size": 1 << 20}, {"manual_dir": None}):
        with pytest.raises(UsageError):
            Builder(data_dir=tmp_path).download_and_prepare(
                download_config=from_rollouts(rollouts).replace(**options)
            )
    with pytest.raises(UsageError, match="tfrecord"):
        Builder(data_dir=tmp_path, file_format="array_record")
    with pytest.raises(UsageError, match="local"):
        Builder(data_dir="gs://bucket/data")
    assert not any(tmp_path.iterdir())


# --- tfds build ------------------------------------------------------------------------------------------

SERVER = """
import json, os, sys
from tensorflow_datasets.scripts.cli.main import launch_cli
for line in sys.stdin:
    case = json.loads(line)
    if not os.fork():
        sys.argv = ["tfds", "build", *case["words"]]
        os.chdir(case["cwd"])
        for number, name in (0, os.devnull), (1, case["out"]), (2, case["err"]):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
        break
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
else:
    os._exit(0)
sys.exit(launch_cli())
"""
"""Runs `tfds build` as the `tfds` script does, to the very end of a process, but imports TensorFlow once."""


class Tfds:
    """`tfds build`, many times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self, *words: str, cwd: Path = ROOT) -> tuple[int, list[str], str]:
        """Exit code, our lines on standard error, and standard output."""
        out, err = self.folder / "out", self.folder / "err"
        case = {"words": words, "cwd": str(cwd), "out": str(out), "err": str(err)}
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(case).encode() + b"\n")
        self.server.stdin.flush()
        code = int(self.server.stdout.readline())
        assert "Traceback" not in err.read_text()
        lines = err.read_text().splitlines()
        return code, [line.removeprefix("vla-data: ") for line in lines if "vla-data: " in line], out.read_text()


@pytest.fixture(scope="module")
def tfds_build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tfds]:
    tool = Tfds(tmp_path_factory.mktemp("tfds"))
    yield tool
    assert tool.server.stdin is not None
    tool.server.stdin.close()
    tool.server.wait(30)
    assert tool.server.stdout is not None
    tool.server.stdout.close()


NAME = "builders/ppo_sft_aligned"


def test_the_command_as_it_is_written(tmp_path: Path, rollouts: Path, build: Callable[..., Path]) -> None:
    command = [str(Path(sys.executable).with_name("tfds")), "build", NAME, f"--manual_dir={rollouts}"]
    found = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "TFDS_DATA_DIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert re.search(r"Total files +8\b", found.stdout)
    assert "num_examples=" in found.stdout
    assert hashes(tmp_path / "ppo_sft_aligned/default/1.0.0") == hashes(build())


@pytest.mark.parametrize(
    ("config", "options", "folder"),
    [
        ('{"min_success_steps": 3, "pos_thresh": 0.02}', {"min_success_steps": 3, "pos_thresh": 0.02}, None),
        ('{"step_fields": "rlds"}', {"step_fields": "rlds"}, "rlds"),
        ("rlds", {"step_fields": "rlds"}, "rlds"),
        ('{"metadata": "rl4vla"}', {"metadata": "rl4vla"}, None),
    ],
)
def test_the_same_bytes_as_vla_data_build(
    tmp_path: Path,
    tfds_build: Tfds,
    rollouts: Path,
    build: Callable[..., Path],
    config: str,
    options: dict[str, Any],
    folder: str | None,
) -> None:
    code, lines, _ = tfds_build(NAME, f"--manual_dir={rollouts}", f"--data_dir={tmp_path}", f"--config={config}")
    assert (code, lines) == (0, [])
    want = build(**options)
    assert hashes(tmp_path / "ppo_sft_aligned" / (folder or want.parent.name) / "1.0.0") == hashes(want)


def test_a_named_config_from_the_builders_folder(tmp_path: Path, tfds_build: Tfds, rollouts: Path) -> None:
    here = ROOT / NAME
    options = [f"--manual_dir={os.path.relpath(rollouts, here)}", f"--data_dir={tmp_path}"]
    code, _, _ = tfds_build(*options, '--config={"name": "run7", "pos_thresh": null}', cwd=here)
    assert code == 0
    assert (tmp_path / "ppo_sft_aligned/run7/1.0.0/dataset_info.json").is_file()
    code, lines, _ = tfds_build(*options, '--config={"name": "run7"}', cwd=here)
    assert (code, lines[0][:4]) == (5, "E412")


def test_a_second_run(tmp_path: Path, tfds_build: Tfds, rollouts: Path, full_size: Path) -> None:
    def run(source: Path, *words: str) -> tuple[int, list[str], str]:
        return tfds_build(str(ROOT / NAME), f"--manual_dir={source}", "--data_dir=data", *words, cwd=tmp_path)

    folder = tmp_path / "data/ppo_sft_aligned/default/1.0.0"
    mine = shutil.copytree(rollouts, tmp_path / "mine")
    assert run(mine)[0] == 0
    first = hashes(folder)
    written = (folder / "dataset_info.json").stat().st_mtime_ns
    code, lines, out = run(mine)
    assert (code, lines) == (0, [])
    assert re.search(r"Total files +8\b", out)
    assert (folder / "dataset_info.json").stat().st_mtime_ns == written
    for source, words in ((full_size, []), (mine, ["--max_examples_per_split=2"])):
        code, lines, _ = run(source, *words)
        assert (code, len(lines), lines[0][:4]) == (5, 1, "E412")
    code, lines, _ = run(mine, "--fail_if_exists")
    assert (code, len(lines), lines[0][:4]) == (5, 1, "E411")
    save(mine, "env/ep_0.npz", rollout(9, seed=77))
    code, lines, _ = run(mine)
    assert (code, lines[0][:4]) == (5, "E412")
    empty = tmp_path / "empty"
    empty.mkdir()
    code, lines, _ = run(empty, "--overwrite")
    assert (code, len(lines), lines[0][:4]) == (2, 1, "E003")
    assert hashes(folder) == first  # the old dataset goes when the new one is there, not before
    assert run(full_size, "--overwrite", "--num_shards=1")[0] == 0
    assert hashes(folder) != first


def test_a_build_of_some_is_not_taken_for_all(tmp_path: Path, tfds_build: Tfds, rollouts: Path) -> None:
    words = (NAME, f"--manual_dir={rollouts}", f"--data_dir={tmp_path}", "--num_shards=2")
    assert tfds_build(*words, "--max_examples_per_split=3")[0] == 0
    folder = tmp_path / "ppo_sft_aligned/default/1.0.0"
    assert len(list(folder.glob("*-train.tfrecord-*-of-00002"))) == 2
    code, lines, _ = tfds_build(*words)
    assert (code, lines[0][:4]) == (5, "E412")


def test_other_fields_under_the_same_name_are_no_reuse(tmp_path: Path, rollouts: Path) -> None:
    def make(num_shards: int | None = None, **options: Any) -> None:
        Builder(data_dir=tmp_path, config=PpoSftAlignedConfig(name="run7", **options)).download_and_prepare(
            download_config=from_rollouts(rollouts, num_shards=num_shards)
        )

    make()
    for options in (
        {"step_fields": "rlds"},
        {"metadata": "rl4vla"},
        {"val_fraction": 0.5},
        {"jpeg_quality": 80},
        {"num_shards": 2},
    ):
        with pytest.raises(TargetExistsError):
            make(**options)


def test_a_link_does_not_stop_a_second_run(tmp_path: Path, rollouts: Path) -> None:
    source = shutil.copytree(rollouts, tmp_path / "source")
    (source / "link.npz").symlink_to(rollouts / "env/ep_0.npz")
    make = Builder(data_dir=tmp_path / "data").download_and_prepare
    make(download_config=from_rollouts(source))
    make(download_config=from_rollouts(source))


def test_quarantined_episodes_are_exit_code_3(tmp_path: Path, tfds_build: Tfds, rollouts: Path) -> None:
    source = shutil.copytree(rollouts, tmp_path / "source")
    (source / "env/ep_0.npz").write_bytes(b"PK no zip")
    words = (NAME, f"--manual_dir={source}", f"--data_dir={tmp_path}/data")
    code, lines, out = tfds_build(*words)
    assert code == 3
    assert len(lines) == 1
    assert "env/ep_0.npz" in lines[0]
    assert "(quarantined)" in lines[0]
    assert "num_examples=" in out  # TFDS did the rest of its work
    assert tfds_build(*words)[0] == 3
    code, lines, _ = tfds_build(*words[:2], f"--data_dir={tmp_path}/data", "--config=nope")
    assert code == 2


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["--config=nope"], 2, "E001 usage: there is no config 'nope'"),
        (['--config={"pos_tresh": 1}'], 2, "did you mean 'pos_thresh'"),
        (['--config={"pos_thresh": -1}'], 2, "pos_thresh is -1.0, not 0 or more"),
        (["--config={bad"], 2, "is not JSON"),
        (["--manual_dir=/nowhere/rollouts"], 2, "E003 not-found"),
        (["--data_dir=/dev/null/data"], 7, "E703 input-output"),
        (["--file_format=array_record"], 2, "tfrecord only"),
        (["--max_shard_size_mb=8"], 2, "use --num_shards"),
        (["--update_metadata_only"], 2, "--overwrite"),
        (["--num_processes=2"], 2, "leave out --num_processes"),
        (["--publish_dir=elsewhere"], 2, "copy the dataset"),
    ],
)
def test_one_line_and_an_exit_code(
    tmp_path: Path, tfds_build: Tfds, rollouts: Path, words: list[str], code: int, line: str
) -> None:
    given_words = {word.partition("=")[0] for word in words}
    defaults = [f"--manual_dir={rollouts}", f"--data_dir={tmp_path}/data"]
    found, lines, _ = tfds_build(NAME, *(w for w in defaults if w.partition("=")[0] not in given_words), *words)
    assert (found, len(lines)) == (code, 1)
    assert line in lines[0]
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "more",
    ["", pytest.param(",direct_running_mode=multi_processing,direct_num_workers=2", marks=pytest.mark.nightly)],
)
def test_tfds_build_on_beam_gives_the_same_bytes(
    more: str, tmp_path: Path, tfds_build: Tfds, rollouts: Path
) -> None:
    shutil.copytree(rollouts, tmp_path / "in")
    (tmp_path / "in/bad.npz").write_bytes(b"PK no zip")
    words = (NAME, f"--manual_dir={tmp_path}/in")
    beam = f"--beam_pipeline_options=runner=FnApiRunner{more}"
    assert tfds_build(*words, f"--data_dir={tmp_path}/plain")[0] == 3
    code, lines, _ = tfds_build(*words, f"--data_dir={tmp_path}/beam", beam)
    assert code == 3
    assert len([line for line in lines if "(quarantined)" in line]) == 1
    plain, made = (tmp_path / name / "ppo_sft_aligned/default/1.0.0" for name in ("plain", "beam"))
    names = sorted(path.relative_to(plain) for path in plain.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert {name: (plain / name).read_bytes() for name in names} == {
        name: (made / name).read_bytes() for name in names
    }
    assert any("-val.tfrecord-" in name.name for name in names)


def test_no_folder_of_rollouts(tmp_path: Path, tfds_build: Tfds) -> None:
    code, lines, _ = tfds_build(NAME, f"--data_dir={tmp_path}")
    assert (code, len(lines)) == (2, 1)
    assert "--manual_dir=ROLLOUTS" in lines[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_without_write_permission(tmp_path: Path, tfds_build: Tfds, rollouts: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o500)
    code, lines, _ = tfds_build(NAME, f"--manual_dir={rollouts}", f"--data_dir={tmp_path}/data")
    assert (code, len(lines), lines[0][:4]) == (7, 1, "E702")
