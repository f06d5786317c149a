"""LeRobot v2.1 as it is written: exact, there and back, examined, and opened by the lerobot that reads it."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from converters.lerobot import modality
from converters.lerobot.source import LerobotSource
from tests.converters.lerobot.test_features import EveryFeature
from tests.language_sets import annotated
from tests.lerobot_sets import TOP, Here
from tests.paths import ROOT
from tests.stock_lerobot import PYTHONS, judged, needed
from vla_data.actions import preset
from vla_data.media.video_settings import VideoSettings
from vla_data.statistics import vector_stats
from vla_data.steps.features import SelectFeatures
from vla_data.verification.repair import repair

H264 = VideoSettings(codec="h264")
DATA = "data/chunk-000/episode_{:06d}.parquet"


def run(source: Any, out: Path, version: str, **options: Any) -> vd.Report:
    sink = vd.open_sink(out, version=version, **options)
    return vd.run(source, (), sink, engine=Here())


def rollouts() -> vd.Source:
    return vd.open_source(ROOT / "tests/data/rollouts")


def digests(root: Path) -> list[str | None]:
    return [record.content_sha256 for record in vd.open_ledger(root).records]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def episodes(root: Path) -> list[vd.Episode]:
    source = LerobotSource(root=root)
    return [source.read(ref) for ref in source.episodes()]


def are_same(one: list[vd.Episode], other: list[vd.Episode], *, lossy: bool = False) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert (a.task, a.arrays.keys(), a.frames.keys()) == (b.task, b.arrays.keys(), b.frames.keys())
        for name, array in a.arrays.items():
            assert array.dtype.kind == b.arrays[name].dtype.kind
            np.testing.assert_array_equal(array, b.arrays[name], err_msg=name)
        for name, frames in a.frames.items():
            for t in range(0 if not lossy else len(frames), len(frames)):
                np.testing.assert_array_equal(frames.pixels(t), b.frames[name].pixels(t))


SETS: dict[str, Callable[[Path], vd.Source]] = {
    "rollouts": lambda _: rollouts(),
    "every feature": lambda _: EveryFeature(),
    "language and depth": lambda path: LerobotSource(root=annotated(path, subtasks=True)),
}


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize(
    "options", [{"images": "png"}, {"images": "jpeg"}, {"video": H264}], ids=["png", "jpeg", "h264"]
)
def test_there_and_back_keeps_every_digest(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    if "video" in options and kind != "rollouts":
        pytest.skip("their images are smaller than a video can be")
    source = SETS[kind](tmp_path / "in")
    run(source, tmp_path / "old", "v2.1", **options)
    run(source, tmp_path / "new", "v3.0", **options)
    assert digests(tmp_path / "old") == digests(tmp_path / "new")
    assert vd.verify(tmp_path / "old", deep=True).ok
    if "video" not in options:  # encoding a video again loses a little each time
        run(LerobotSource(root=tmp_path / "old"), tmp_path / "new2", "v3.0", **options)
        run(LerobotSource(root=tmp_path / "new"), tmp_path / "old2", "v2.1", **options)
        assert digests(tmp_path / "new2") == digests(tmp_path / "old2") == digests(tmp_path / "old")
        exact = ("meta/episodes_stats.jsonl",) if options["images"] == "png" else ()  # JPEG changes pixels
        for name in ("data", "meta/tasks.jsonl", *exact):
            assert tree(tmp_path / "old" / name) == tree(tmp_path / "old2" / name)
        assert tree(tmp_path / "new/data") == tree(tmp_path / "new2/data")
        seen = vd.verify(tmp_path / "new2", against=[str(tmp_path / "old")])
        assert seen.ok, seen.damages
    are_same(episodes(tmp_path / "old"), episodes(tmp_path / "new"), lossy="video" in options)


def tree(folder: Path) -> dict[str, bytes]:
    files = folder.rglob("*") if folder.is_dir() else [folder]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files if p.is_file()}


def test_files_and_metadata_are_those_of_v21(tmp_path: Path) -> None:
    root = tmp_path / "set"
    run(rollouts(), root, "v2.1", video=H264)
    info = json.loads((root / "meta/info.json").read_text())
    count = info["total_episodes"]
    assert count == 3
    assert info["codebase_version"] == "v2.1"
    assert info["data_path"] == "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    assert info["video_path"] == "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    assert (info["total_videos"], info["total_chunks"], info["chunks_size"]) == (3, 1, 1000)
    own = lines(root / "meta/episodes.jsonl")
    stats = lines(root / "meta/episodes_stats.jsonl")
    want = [rollouts().read(ref) for ref in rollouts().episodes()]
    at = 0
    for number, episode in enumerate(want):
        assert own[number]["episode_index"] == stats[number]["episode_index"] == number
        assert (own[number]["length"], own[number]["tasks"]) == (len(episode), [episode.task])
        table = pq.read_table(root / DATA.format(number))
        assert table["action"].to_pylist() == episode.arrays["action"].tolist()
        assert table["index"].to_pylist() == list(range(at, at + len(episode)))
        assert stats[number]["stats"]["action"] == vector_stats(episode.arrays["action"])
        at += len(episode)
        assert (root / f"videos/chunk-000/observation.images.primary/episode_{number:06d}.mp4").is_file()
    assert lines(root / "meta/tasks.jsonl") == [{"task_index": 0, "task": want[0].task}]
    assert not (root / "meta/stats.json").exists()
    hf = json.loads(pq.read_schema(root / DATA.format(0)).metadata[b"huggingface"])
    assert "List" not in json.dumps(hf)


def test_1001_episodes_are_in_two_folders(tmp_path: Path) -> None:
    from tests.lerobot_sets import numbers, vector, write

    many = [{"action": numbers(2, episode=e).tolist()} for e in range(1001)]
    source = LerobotSource(root=write(tmp_path / "in", many, {"action": vector()}))
    run(source, tmp_path / "out", "v2.1")
    assert (tmp_path / "out/data/chunk-001/episode_001000.parquet").is_file()
    assert vd.verify(tmp_path / "out", deep=True).ok
    assert episodes(tmp_path / "out")[1000].arrays["action"].tolist() == many[1000]["action"]


def test_statistics_of_what_is_called_an_image_and_is_none_are_left_out(tmp_path: Path) -> None:
    """lerobot 0.3 takes it for a camera of three channels and refuses the dataset."""
    run(LerobotSource(root=annotated(tmp_path / "in")), tmp_path / "out", "v2.1", images="png")
    (first, *_) = lines(tmp_path / "out/meta/episodes_stats.jsonl")
    assert TOP in first["stats"]
    assert "observation.images.depth" not in first["stats"]
    assert np.shape(first["stats"][TOP]["mean"]) == (3, 1, 1)


# -- what is wrong is found -----------------------------------------------------------------------------------


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    root = tmp_path / "set"
    run(rollouts(), root, "v2.1", video=H264)
    files = [p for p in root.rglob("*") if p.is_file()]
    pick = random.Random(0)
    for number in range(1000):
        path = files[number % len(files)]
        data = bytearray(path.read_bytes())
        at = pick.randrange(len(data))
        data[at] ^= 1 << pick.randrange(8)
        sound = path.read_bytes()
        path.write_bytes(data)
        seen = vd.verify(root)
        assert not seen.ok, f"bit at {at} of {path.name}"
        assert any(path.name in str(damage) or "SHA256SUMS" in str(damage) for damage in seen.damages)
        path.write_bytes(sound)
    assert vd.verify(root).ok


def rewrite(path: Path, change: Callable[[list[Any]], None]) -> None:
    rows = lines(path)
    change(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def put(*keys: Any, value: Any) -> Callable[[list[Any]], None]:
    def change(rows: list[Any]) -> None:
        at = rows
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


WRONG: dict[str, tuple[str, Callable[[list[Any]], None]]] = {
    "length": ("episodes.jsonl", put(1, "length", value=3)),
    "task": ("episodes.jsonl", put(1, "tasks", value=["other"])),
    "id": ("episodes.jsonl", put(1, "vla_data/source", value="x")),
    "number": ("episodes.jsonl", put(1, "episode_index", value=7)),
    "an episode less": ("episodes.jsonl", lambda rows: rows.pop()),
    "an episode more": ("episodes.jsonl", lambda rows: rows.append(rows[-1])),
    "mean": ("episodes_stats.jsonl", put(1, "stats", "action", "mean", 0, value=9.0)),
    "no statistics": ("episodes_stats.jsonl", lambda rows: rows[1]["stats"].pop("action")),
    "statistics swapped": ("episodes_stats.jsonl", lambda rows: rows.reverse()),
    "a task": ("tasks.jsonl", put(0, "task", value="put it away")),
    "a number of a task": ("tasks.jsonl", put(0, "task_index", value=1)),
}


@pytest.mark.parametrize("name", WRONG)
def test_metadata_that_are_not_the_datas_are_found_without_checksums(name: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    run(rollouts(), root, "v2.1")
    file, change = WRONG[name]
    rewrite(root / "meta" / file, change)
    seen = vd.verify(root, deep=True)
    own = [str(d) for d in seen.damages if "SHA-256" not in str(d)]
    assert any(file.split(".")[0] in text or "episode" in text for text in own), own


def test_what_is_damaged_is_repaired_from_the_source(tmp_path: Path) -> None:
    root = tmp_path / "set"
    run(rollouts(), root, "v2.1", video=H264)
    before = tree(root)
    (root / DATA.format(1)).write_bytes(b"")
    (root / "meta/episodes_stats.jsonl").write_bytes(b"")
    assert not vd.verify(root).ok
    repair(root, str(ROOT / "tests/data/rollouts"))
    assert tree(root) == before


# -- modality.json ----------------------------------------------------------------------------------------------


def test_parts_are_those_of_the_conventions() -> None:
    features = {
        "action": vd.Feature(dtype="float32", shape=(7,), convention=preset("libero").to_json()),
        "observation.state": vd.Feature(dtype="float32", shape=(8,)),
        "observation.state.hand": vd.Feature(dtype="float32", shape=(2,)),
        "observation.images.front": vd.Feature(dtype="image", shape=(8, 8, 3)),
        "observation.other": vd.Feature(dtype="float32", shape=(2,)),
    }
    found = modality.to_json(vd.Schema(features=features, fps=20.0))
    assert found["action"]["translation"] == {"start": 0, "end": 3, "original_key": "action", "absolute": False}
    assert found["action"]["rotation"]["rotation_type"] == "axis_angle"
    assert found["action"]["gripper"] == {"start": 6, "end": 7, "original_key": "action", "absolute": True}
    assert found["state"] == {
        "state": {"start": 0, "end": 8, "original_key": "observation.state"},
        "hand": {"start": 0, "end": 2, "original_key": "observation.state.hand"},
    }
    assert found["video"] == {"front": {"original_key": "observation.images.front"}}
    assert found["annotation"] == {"human.task_description": {"original_key": "task_index"}}


@pytest.mark.parametrize(
    ("layout", "parts"),
    [
        ({"translation": [0, 1, 2], "gripper": [4]}, {"translation": (0, 3), "gripper": (4, 5)}),
        ({"translation": [0, 2, 4]}, {"action": (0, 7)}),
        ({}, {"action": (0, 7)}),
    ],
)
def test_a_part_that_is_no_range_is_none(layout: Any, parts: Any) -> None:
    feature = vd.Feature(dtype="float32", shape=(7,), convention={"layout": layout})
    found = modality.to_json(vd.Schema(features={"action": feature}, fps=5.0))["action"]
    assert {name: (part["start"], part["end"]) for name, part in found.items()} == parts


# -- stock lerobot ------------------------------------------------------------------------------------------------

OLD = [p for p in os.environ.get("LEROBOT_V21_PYTHON", "").split(os.pathsep) if Path(p).is_file()]
"""Interpreters with lerobot 0.3, or what openpi pins: ``scripts/judges lerobot openpi`` makes them."""


@needed
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("kind", ["images", "video", "every feature"])
def test_lerobots_converter_makes_of_it_what_we_write(python: str, kind: str, tmp_path: Path) -> None:
    source: Any = EveryFeature() if kind == "every feature" else rollouts()
    options: dict[str, Any] = {"video": H264} if kind == "video" else {"images": "png"}
    ours, theirs = tmp_path / "ours", tmp_path / "judge/set"
    # Its converter goes through pandas, where NaN in lists of lists become gaps.
    steps = [SelectFeatures(drop=("depth.metres",))] if kind == "every feature" else []
    for root, version in ((ours, "v3.0"), (theirs, "v2.1")):
        vd.run(source, steps, vd.open_sink(root, version=version, **options), engine=Here())
    judged(python, tmp_path, judge="lerobot_v30")
    are_same(episodes(ours), episodes(theirs), lossy=kind == "video")
    infos = [json.loads((root / "meta/info.json").read_text()) for root in (ours, theirs)]
    for name in (
        "codebase_version",
        "total_episodes",
        "total_frames",
        "total_tasks",
        "fps",
        "splits",
        "data_path",
    ):
        assert infos[0][name] == infos[1][name], name
    assert infos[0]["features"].keys() == infos[1]["features"].keys()
    stats = [json.loads((root / "meta/stats.json").read_text()) for root in (ours, theirs)]
    for name, facts in stats[1].items():
        if np.isfinite(np.concatenate([np.ravel(v) for v in facts.values()])).all():
            for key in ("min", "max", "mean"):
                np.testing.assert_allclose(
                    np.ravel(facts[key]), np.ravel(stats[0][name][key]), rtol=1e-5, atol=1e-6
                )


@pytest.mark.skipif(not OLD, reason="LEROBOT_V21_PYTHON names no interpreter with lerobot 0.3")
@pytest.mark.parametrize("python", OLD)
@pytest.mark.parametrize("kind", SETS)
def test_lerobot_of_v21_opens_it(kind: str, python: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    run(SETS[kind](tmp_path / "in"), root, "v2.1", images="png")
    seen = judged(python, root, judge="lerobot_v21")
    own = episodes(root)
    assert (seen["episodes"], len(seen["frames"])) == (len(own), sum(map(len, own)))
    frames = iter(seen["frames"])
    for episode in own:
        for t in range(len(episode)):
            frame = next(frames)
            assert frame["task"] == episode.task
            for name, array in episode.arrays.items():
                want = array[t]
                if array.dtype.kind == "U":
                    assert frame[name] == str(want)
                elif np.isfinite(want.astype(np.float64)).all():
                    assert frame[name] == [list(want.shape), pytest.approx(float(want.astype(np.float64).sum()))]
            for name, pictures in episode.frames.items():
                pixels = pictures.pixels(t)
                assert frame[name][0] == [3, *pixels.shape[:2]]
                assert frame[name][1] == pytest.approx(pixels.astype(np.float64).sum() / 255, rel=1e-5)
