"""RDT2's shards: numbers held against SciPy, files against tarfile and webdataset, faults, attacks, the gate."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

import vla_data as vd
from converters.rdt2.check import Rdt2Audit
from converters.rdt2.pictures import square
from converters.rdt2.shards import key_of, unpack
from tests import attacks, two_arms
from tests.lerobot_sets import Here
from tests.two_arms import LENGTHS, TASKS
from training_adapters.rdt2 import gate
from vla_data.actions import Convention
from vla_data.errors import DataError, UsageError, VerifyError
from vla_data.verification.repair import repair

CHUNK = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return two_arms.write(tmp_path_factory.mktemp("arms") / "in")


@pytest.fixture(scope="module")
def dataset(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("shards") / "set"
    vd.run(vd.open_source(source), (), vd.open_sink(target, format="rdt2", name="arms"), engine=Here())
    return target


def read(dataset: Path) -> list[dict[str, Any]]:
    """Every sample by its number, with the standard library, NumPy and Pillow alone."""
    samples: dict[int, dict[str, Any]] = defaultdict(dict)
    for shard in sorted((dataset / "shards").glob("shard-*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                number, _, kind = member.name.partition(".")
                file = archive.extractfile(member)
                assert file is not None
                data = file.read()
                read = {
                    "image.jpg": lambda data: np.asarray(Image.open(io.BytesIO(data))),
                    "action.npy": lambda data: np.load(io.BytesIO(data)),
                    "meta.json": json.loads,
                }[kind]
                samples[int(number)][kind] = read(data)
    return [samples[number] for number in sorted(samples)]


def matrices(position: Any, turn: Any) -> Any:
    out = np.tile(np.eye(4), (len(position), 1, 1))
    out[:, :3, :3], out[:, :3, 3] = Rotation.from_rotvec(turn).as_matrix(), position
    return out


def wanted(number: int, t: int) -> Any:
    """A chunk as RDT2 documents it: inv(pose now) @ later poses; 3 + 6 + 1 numbers of the right arm, the left."""
    told = two_arms.steps(number)
    arms = []
    for arm in (0, 1):
        names = [f"observation.robot{arm}_{part}" for part in ("eef_pos", "eef_rot_axis_angle", "gripper_width")]
        position, turn, width = (told[name].astype(np.float64) for name in names)
        poses = matrices(position, turn)
        later = np.linalg.inv(poses[t]) @ poses[t + 1 : t + 1 + CHUNK]
        six = np.concatenate([later[:, :3, 0], later[:, :3, 1]], axis=1)
        arms.append(np.concatenate([later[:, :3, 3], six, width[t + 1 : t + 1 + CHUNK]], axis=1))
    return np.concatenate(arms, axis=1)


def test_every_chunk_picture_and_instruction(dataset: Path) -> None:
    samples = read(dataset)
    tasks = json.loads((dataset / "instruction.json").read_text())
    assert len(samples) == sum(length - CHUNK for length in LENGTHS)
    at = 0
    for number, length in enumerate(LENGTHS):
        for t in range(length - CHUNK):
            sample = samples[at]
            assert (sample["action.npy"].dtype, sample["action.npy"].shape) == (np.float32, (24, 20))
            np.testing.assert_allclose(sample["action.npy"], wanted(number, t), atol=1e-6)
            assert tasks[sample["meta.json"]["sub_task_instruction_key"]] == TASKS[number]
            pixels = sample["image.jpg"]
            assert pixels.shape == (384, 768, 3)
            told = two_arms.steps(number)
            for half, camera in (
                (pixels[:, :384], "camera1_rgb"),
                (pixels[:, 384:], "camera0_rgb"),
            ):  # left, right
                want = told[f"observation.images.{camera}"][t][0, 0]
                np.testing.assert_allclose(half[190, 190], want, atol=6)
            at += 1


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_rdt2s_own_way_of_reading(dataset: Path) -> None:
    """webdataset, which RDT2's training reads with, and its configuration."""
    wds = pytest.importorskip("webdataset")
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load((dataset / "dataset.yaml").read_text())
    assert (told["name"], told["type"]) == ("arms", "single")
    shards = sorted(map(str, (dataset / told["shards_dir"]).glob("shard-*.tar")))
    tasks = json.loads((dataset / told["kwargs"]["instruction_path"]).read_text())
    found = list(wds.WebDataset(shards, shardshuffle=False, empty_check=False).decode("pil"))
    for sample, want in zip(found, read(dataset), strict=True):
        np.testing.assert_array_equal(sample["action.npy"], want["action.npy"])
        np.testing.assert_array_equal(np.asarray(sample["image.jpg"]), want["image.jpg"])
        assert sample["meta.json"]["sub_task_instruction_key"] in tasks


@pytest.mark.parametrize("flips", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_it_verifies_repairs_and_passes_the_gate(flips: int, dataset: Path, source: Path) -> None:
    assert vd.verify(dataset, deep=True, reader="rdt2").ok
    seen = gate.read_back(dataset)
    assert (seen["samples"], seen["shards"], seen["warnings"]) == (7, 1, [])
    shard = dataset / "shards/shard-000000.tar"
    good = shard.read_bytes()
    for number in range(flips):
        bad = bytearray(good)
        bad[number * len(good) // flips] ^= 1 << number % 8
        shard.write_bytes(bad)
        assert not vd.verify(dataset).ok
    repair(dataset, [str(source)], workers=1)
    assert shard.read_bytes() == good


def test_the_second_look_shares_no_writer(dataset: Path, tmp_path: Path) -> None:
    """What SHA256SUMS does not tell is told by reading: a swapped action, a wrong key, a sample too many."""
    for change, words in (
        (lambda name, data: data[:-4] + b"\0\0\x80\x3f" if name == "3.action.npy" else data, "digest|rotation"),
        (
            lambda name, data: b'{"sub_task_instruction_key": "x"}' if name == "0.meta.json" else data,
            "instruction",
        ),
        (lambda name, data: b"{}" if name == "0.meta.json" else data, "has no sub_task"),
    ):
        copy = tmp_path / "copy"
        shutil.copytree(dataset, copy)
        shard = copy / "shards/shard-000000.tar"
        out = io.BytesIO()
        with tarfile.open(dataset / "shards/shard-000000.tar") as old, tarfile.open(fileobj=out, mode="w") as new:
            for member in old:
                file = old.extractfile(member)
                assert file is not None
                data = change(member.name, file.read())  # type: ignore[no-untyped-call]
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
        shard.write_bytes(out.getvalue())
        told: list[str] = []
        schema = vd.Schema.read(copy / "vla_data/rdt2/schema.json", root=copy)

        def blame(file: str, problem: str, *ids: str, told: list[str] = told) -> None:
            told.append(problem)

        Rdt2Audit(copy, vd.open_ledger(copy), schema, blame).run()
        assert any(re.search(words, line) for line in told), told
        if "digest" not in words:
            with pytest.raises(VerifyError, match="E601"):
                gate.read_back(copy)
        shutil.rmtree(copy)


class Fake:
    """An episode with some of its features changed."""

    def __init__(self, source: Path, change: Any, fps: float = 30.0, conventions: Any = None) -> None:
        opened = vd.open_source(source)
        episode = opened.read(opened.episodes()[0])
        schema = opened.schema(episode)
        arrays, frames = change(dict(episode.arrays), dict(episode.frames))
        self.episode = replace(episode, arrays=arrays, frames=frames)
        features = {
            name: vd.Feature(
                dtype=str(a.dtype), shape=a.shape[1:] or (1,), convention=(conventions or {}).get(name, {})
            )
            for name, a in arrays.items()
        }
        self.schema = vd.Schema(features={**schema.features, **features}, fps=fps)


def test_declared_states_give_the_same_chunks(source: Path, dataset: Path) -> None:
    """A state whose convention says where each arm is; here in millimetres, quaternions and a share of open."""

    def change(arrays: Any, frames: Any) -> Any:
        parts = []
        for arm in (1, 0):  # the left arm first, to be told by the layout alone
            turn = Rotation.from_rotvec(arrays.pop(f"observation.robot{arm}_eef_rot_axis_angle")).as_quat()
            width = arrays.pop(f"observation.robot{arm}_gripper_width") / 0.08
            parts += [1000.0 * arrays.pop(f"observation.robot{arm}_eef_pos"), turn, 1 - width]
        return {"observation.state": np.concatenate(parts, axis=1)}, frames

    sides = {"left": 0, "right": 8}
    convention = Convention(
        layout={
            f"{side}_{part}": tuple(range(at + low, at + high))
            for side, at in sides.items()
            for part, low, high in (("translation", 0, 3), ("rotation", 3, 7), ("gripper", 7, 8))
        },
        kind="absolute",
        frame="world",
        translation_unit="mm",
        rotation="quaternion_xyzw",
        gripper_control="position",
        gripper_open=0.0,
        gripper_closed=1.0,
    )
    made = Fake(source, change, conventions={"observation.state": convention.to_json()})
    sink = vd.open_sink("unused", format="rdt2", gripper_opening=0.08)
    blob = b"".join(map(bytes, sink.encode(made.episode, made.schema).blob))
    found = [np.load(io.BytesIO(action)) for _, action in unpack(blob)]
    for t, chunk in enumerate(found):
        np.testing.assert_allclose(chunk, wanted(0, t), atol=2e-6)


@pytest.mark.parametrize(
    ("change", "fps", "code", "words"),
    [
        (lambda a, f: (a, f), 20.0, "E232", "--resample 30"),
        (lambda a, f: ({}, f), 30.0, "E206", "poses of two arms"),
        (lambda a, f: ({k: v for k, v in a.items() if "robot1" not in k}, f), 30.0, "E206", "two arms"),
        (lambda a, f: (a, {k: v for k, v in f.items() if "camera1" not in k}), 30.0, "E206", "on each wrist"),
        (lambda a, f: ({"observation.state": np.zeros((26, 16))}, f), 30.0, "E231", "absolute poses"),
        (
            lambda a, f: (a | {"observation.robot0_eef_pos": np.zeros((26, 2))}, f),
            30.0,
            "E203",
            "not of 3 numbers",
        ),
    ],
)
def test_what_can_not_be_written_is_told(change: Any, fps: float, code: str, words: str, source: Path) -> None:
    made = Fake(source, change, fps)
    with pytest.raises((DataError, UsageError), match=words) as caught:
        vd.open_sink("unused", format="rdt2").encode(made.episode, made.schema)
    assert caught.value.code == code


def test_a_short_episode_is_quarantined(source: Path) -> None:
    opened = vd.open_source(source)
    episode = opened.read(opened.episodes()[0])
    with pytest.raises(DataError, match="E207"):
        vd.open_sink("unused", format="rdt2").encode(episode.take(np.arange(24)), opened.schema(episode))


def test_pictures_are_cut_to_the_middle() -> None:
    wide = np.zeros((384, 600, 3), np.uint8)
    wide[:, 108:492] = 7
    assert (square(wide) == 7).all()
    large = np.zeros((768, 768, 3), np.uint8)
    large[::2] = 100
    assert (square(large) == 50).all()
    assert square(np.zeros((48, 64, 3), np.uint8)).shape == (384, 384, 3)


@pytest.mark.parametrize("kind", ["link", "device", "twice", "outside", "cut", "pickle"])
def test_archives_that_lie(kind: str, dataset: Path, tmp_path: Path) -> None:
    shard = tmp_path / "shards/shard-000000.tar"
    shard.parent.mkdir()
    (tmp_path / "instruction.json").write_text(json.dumps({key_of("a"): "a"}))
    with tarfile.open(shard, "w") as archive:
        info = tarfile.TarInfo({"outside": "../0.action.npy"}.get(kind, "0.action.npy"))
        data = b""
        if kind == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        elif kind == "device":
            info.type = tarfile.CHRTYPE
        elif kind == "pickle":
            data = attacks.npy_object(attacks.pickled(attacks.system(tmp_path / "canary")))
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
        if kind == "twice":
            archive.addfile(info, io.BytesIO(data))
        meta = json.dumps({"sub_task_instruction_key": key_of("a")}).encode()
        for name, content in {"0.image.jpg": b"x", "0.meta.json": meta}.items() if kind == "pickle" else ():
            more = tarfile.TarInfo(name)
            more.size = len(content)
            archive.addfile(more, io.BytesIO(content))
    with pytest.raises(VerifyError, match="E601"):
        gate.read_back(tmp_path)
    assert not (tmp_path / "canary").exists()
