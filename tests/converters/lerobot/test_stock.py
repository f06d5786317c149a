"""What stock `LeRobotDataset` and lerobot's own tools make of our datasets.

lerobot pins other versions of what TensorFlow needs, so it lives in environments of its own, which
``scripts/test`` makes: 0.4.4, the newest for Python 3.11, and 0.6.1, where there is a Python 3.12.
``LEROBOT_PYTHON`` names other interpreters.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.converters.lerobot.test_features import EveryFeature
from tests.language_sets import METRES, MM, STEPS, TOOLS, annotated, happening, holding, maps
from tests.paths import ROOT
from tests.stock_lerobot import PYTHONS, judged, needed
from vla_data.core.curate import Step
from vla_data.media.video_settings import VideoSettings

CAMERA = "observation.images.primary"

pytestmark = needed


def source() -> vd.Source:
    return vd.open_source(ROOT / "tests/data/rollouts")


def psnr(first: Sequence[np.ndarray[Any, Any]], second: Sequence[np.ndarray[Any, Any]]) -> float:
    """Peak signal-to-noise ratio of two runs of frames in decibels; infinite for equal ones."""
    total = sum(float(np.mean((a.astype(np.float64) - b) ** 2)) for a, b in zip(first, second, strict=True))
    return float("inf") if total == 0 else 10 * float(np.log10(255**2 * len(first) / total))


@pytest.fixture(params=PYTHONS or [""], ids=lambda path: path.split(os.sep)[-3] if path else "none")
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def episodes() -> list[vd.Episode]:
    """What should be in the dataset: every step of the recipe on the real episodes."""
    found = (vd.curate(source().read(ref), vd.recipes.ppo_sft()).episode for ref in source().episodes())
    return [episode for episode in found if episode is not None]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(recipe: Sequence[Step] | None = None, **options: Any) -> Path:
        root = tmp_path_factory.mktemp("lerobot") / "set"
        vd.run(source(), vd.recipes.ppo_sft() if recipe is None else recipe, vd.open_sink(root, **options))
        return root

    return make


def compare_numbers(seen: dict[str, Any], episodes: list[vd.Episode]) -> None:
    assert seen["episodes"] == len(episodes)
    assert seen["total"] == sum(map(len, episodes))
    assert seen["tasks"] == {"put carrot on plate": 0}
    at = 0
    for number, episode in enumerate(episodes):
        for t in range(len(episode)):
            frame = seen["frames"][at]
            assert frame["action"] == episode.arrays["action"][t].tolist()
            assert frame["next.success"] == bool(episode.success_after[t])
            assert (frame["episode_index"], frame["frame_index"], frame["index"]) == (number, t, at)
            assert frame["timestamp"] == float(np.float32(t / 5))
            assert frame["task"] == "put carrot on plate"
            at += 1


def compare_stats(seen: dict[str, Any], episodes: list[vd.Episode]) -> None:
    actions = np.concatenate([episode.arrays["action"] for episode in episodes]).astype(np.float64)
    stats = seen["stats"]["action"]
    np.testing.assert_allclose(actions.mean(axis=0), stats["mean"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(actions.std(axis=0), stats["std"], rtol=1e-6, atol=1e-7)
    for name, q in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        np.testing.assert_allclose(np.quantile(actions, q, axis=0), stats[name], rtol=1e-6, atol=1e-7)


def test_png_images_are_exact(python: str, make: Callable[..., Path], episodes: list[vd.Episode]) -> None:
    root = make(images="png")
    seen = judged(python, root, "pixels")
    compare_numbers(seen, episodes)
    compare_stats(seen, episodes)
    with np.load(f"{root}.pixels.npz") as stored:
        pixels = stored[CAMERA]
    want = np.stack([e.frames[CAMERA].pixels(t) for e in episodes for t in range(len(e))])
    np.testing.assert_array_equal(want, pixels)
    levels = want.reshape(-1, 3) / 255.0  # under 300 pixels, so every pixel counts
    np.testing.assert_allclose(levels.mean(axis=0), seen["stats"][CAMERA]["mean"], rtol=1e-6)
    np.testing.assert_allclose(np.quantile(levels, 0.9, axis=0), seen["stats"][CAMERA]["q90"], rtol=1e-6)
    assert seen["batch"][CAMERA] == [4, 3, 120, 160]
    assert seen["window"] == [2, 7]
    assert seen["last_is_pad"] == [False, True]


def test_jpeg_images_open(python: str, make: Callable[..., Path], episodes: list[vd.Episode]) -> None:
    compare_numbers(judged(python, make(images="jpeg")), episodes)


@pytest.mark.parametrize(
    ("settings", "least"),
    [(VideoSettings(), 33.0), (VideoSettings(codec="h264", crf=23), 36.0)],
    ids=["av1", "h264"],
)
def test_videos_open_and_look_like_their_source(
    python: str, make: Callable[..., Path], episodes: list[vd.Episode], settings: VideoSettings, least: float
) -> None:
    root = make(video=settings)
    seen = judged(python, root, "pixels")
    compare_numbers(seen, episodes)
    with np.load(f"{root}.pixels.npz") as stored:
        pixels = stored[CAMERA]
    want = [e.frames[CAMERA].pixels(t) for e in episodes for t in range(len(e))]
    found = psnr(want, list(pixels))
    print(f"{settings.codec}: {found:.1f} dB")
    assert found >= least


@pytest.mark.parametrize(
    "options", [{"images": "png"}, {"video": VideoSettings(codec="h264", crf=18)}], ids=["images", "videos"]
)
def test_stock_tools_delete_split_and_merge(
    python: str, make: Callable[..., Path], episodes: list[vd.Episode], tmp_path: Path, options: dict[str, Any]
) -> None:
    """``lerobot-edit-dataset`` itself, on our datasets; what it makes is read by its own reader, step by step."""
    root = make(recipe=(), **options)
    for name in "ab":
        shutil.copytree(root, tmp_path / "judge" / name)
    seen = judged(python, tmp_path, judge="lerobot_edit", fresh=True)
    whole = [source().read(ref) for ref in source().episodes()]
    for name, members in {"deleted": [0, 2], "a_first": [0], "a_rest": [1, 2], "merged": [0, 1, 2] * 2}.items():
        want = [whole[i] for i in members]
        found = seen[name]
        assert found["episodes"] == len(want)
        assert found["actions"] == [action.tolist() for e in want for action in e.arrays["action"]]
        assert found["episode_index"] == [i for i, e in enumerate(want) for _ in range(len(e))]
        assert found["index"] == list(range(sum(map(len, want))))
        assert found["tasks"] == ["put carrot on plate"] * len(found["index"])
        means = [e.frames[CAMERA].pixels(t).mean(axis=(0, 1)) for e in want for t in range(len(e))]
        # lerobot encodes videos again, so each frame is near its own and far from those of other steps.
        np.testing.assert_allclose(found["means"], means, atol=3.0 if "video" in options else 0.01)
        actions = np.concatenate([e.arrays["action"] for e in want]).astype(np.float64)
        np.testing.assert_allclose(found["stats"], actions.mean(axis=0), rtol=1e-6, atol=1e-7)


def test_loader_with_workers_and_stored_bytes(python: str, make: Callable[..., Path], tmp_path: Path) -> None:
    root = make(recipe=(), images="jpeg")
    seen = judged(python, root, str(tmp_path / "columns.npz"), judge="lerobot_values")
    whole = [source().read(ref) for ref in source().episodes()]
    steps = sum(map(len, whole))
    assert seen["loaded"] == list(range(steps))
    assert seen["loaded_actions"] == [action.tolist() for e in whole for action in e.arrays["action"]]
    assert seen["loaded_shapes"][CAMERA] == [5, 3, 120, 160]
    stored = [data for e in whole for data in e.frames[CAMERA].encoded("jpeg")]
    assert seen["bytes"][CAMERA] == [hashlib.sha256(data).hexdigest() for data in stored]
    # Our statistics of images are of the pixels before JPEG; `EveryFeature` has PNG.
    del seen["ours"][CAMERA], seen["stock"]["all"][CAMERA]
    compare_stock_stats(seen, {"action": np.concatenate([e.arrays["action"] for e in whole])}, python)
    assert seen["splits"] == {"train": "0:3"}


def compare_stock_stats(seen: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]], python: str) -> None:
    """Ours against stock's ``compute_stats`` of the same rows, and our quantiles against NumPy's of all rows."""
    assert seen["ours"].keys() == seen["stock"]["all"].keys()
    for name, ours in seen["ours"].items():
        stock = seen["stock"]["all"][name]
        assert ours["count"] == stock["count"]
        spread = np.subtract(ours["max"], ours["min"]).max()
        for key in ("min", "max", "mean", "std"):
            values = np.concatenate([arrays[name]]).astype(np.float64) if name in arrays else None
            whole_numbers = values is None or (values == np.round(values)).all()
            if key == "std" and whole_numbers and not is_exact(python):
                continue  # lerobot 0.4.4 squares small integers, images among them, in their own dtype
            np.testing.assert_allclose(ours[key], stock[key], rtol=0, atol=1e-6 * max(spread, 1), err_msg=name)
    for name, values in arrays.items():
        if not np.isfinite(values.astype(np.float64)).all():
            continue
        table = values.astype(np.float64).reshape(-1, values.shape[-1] if values.ndim > 1 else 1)
        for key, q in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
            np.testing.assert_allclose(seen["ours"][name][key], np.quantile(table, q, axis=0), rtol=1e-12)
        np.testing.assert_allclose(seen["ours"][name]["std"], table.std(axis=0), rtol=1e-9, atol=1e-12)


def is_exact(python: str) -> bool:
    """Whether this lerobot computes statistics in floating point: 0.4.4 does not."""
    return (
        "0.4.4"
        not in subprocess.run(
            [python, "-c", "import importlib.metadata as m; print(m.version('lerobot'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


def test_features_of_every_dtype_and_dimension_are_exact(python: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    odd = EveryFeature()
    vd.run(odd, (), vd.open_sink(root, images="png"), workers=1)
    seen = judged(python, root, str(tmp_path / "columns.npz"), judge="lerobot_values")
    whole = [odd.read(ref) for ref in odd.episodes()]
    arrays = {name: np.concatenate([e.arrays[name] for e in whole]) for name in whole[0].arrays}
    with np.load(tmp_path / "columns.npz") as columns:
        for name, array in arrays.items():
            assert columns[name].dtype == array.dtype
            np.testing.assert_array_equal(columns[name], array, err_msg=name)
            shape = [] if array.ndim == 1 else list(array.shape[1:])
            assert seen["item"].get(name, []) == shape
    assert {name: seen["types"][name] for name in ("depth.z16", "depth.metres", "matrix", "four")} == {
        "depth.z16": "Array3D(shape=(6, 8, 1), dtype='uint16')",
        "depth.metres": "Array2D(shape=(6, 8), dtype='float32')",
        "matrix": "Array2D(shape=(4, 4), dtype='float64')",
        "four": "Array4D(shape=(2, 3, 4, 2), dtype='float32')",
    }
    # Stock's statistics of a map with one hole are nothing but NaN.
    assert np.isnan(seen["stock"]["all"].pop("depth.metres")["mean"]).all()
    holes = seen["ours"].pop("depth.metres")
    np.testing.assert_allclose(holes["mean"], np.nanmean(arrays["depth.metres"].astype(float), axis=(0, 1)))
    numbers = {name: array for name, array in arrays.items() if array.dtype.kind in "biuf"}
    del numbers["depth.metres"]
    compare_stock_stats(seen, numbers, python)
    assert (seen["robot"], seen["splits"]) == ("panda", {"train": "0:2", "val": "2:3"})


def test_language_tools_and_depth_are_what_lerobot_reads(python: str, tmp_path: Path) -> None:
    root = tmp_path / "set"
    vd.run(vd.open_source(annotated(tmp_path / "in")), (), vd.open_sink(root, images="png"), workers=1)
    seen = judged(python, root, judge="lerobot_language")
    if not seen["knows"]:
        pytest.skip("this lerobot knows no language")
    assert seen["tools"] == TOOLS
    for number, frame in enumerate(seen["frames"]):
        episode, step = divmod(number, STEPS)
        assert frame["persistent"] == holding(episode)
        assert frame["events"] == happening(episode)[step]
        subtask = ["reach", "reach", "grasp", "grasp", "lift", "lift"][step]
        assert frame["held"] == {"subtask": subtask, "plan": "plan anew" if step >= 4 else f"plan {episode}"}
        millimetres, metres = (one[step] for one in maps(episode))
        np.testing.assert_array_equal(frame["depth"][MM], millimetres[None])
        # It gives every map in millimetres.
        np.testing.assert_allclose(frame["depth"][METRES], metres[None] * np.float32(1000), rtol=1e-6)
