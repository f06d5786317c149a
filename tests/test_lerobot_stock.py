"""What stock `LeRobotDataset` and lerobot's own tools make of our datasets.

lerobot pins other versions of what TensorFlow needs, so it lives in environments of its own, which
``scripts/test`` makes: 0.4.4, the newest for Python 3.11, and 0.6.1, where there is a Python 3.12.
``LEROBOT_PYTHON`` names other interpreters.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from vla_data import video
from vla_data.codec import VideoSettings

ROOT = Path(__file__).parents[1]
OWN = [str(ROOT / f".venv-lerobot-{version}/bin/python") for version in ("0.4.4", "0.6.1")]
PYTHONS = [p for p in os.environ.get("LEROBOT_PYTHON", os.pathsep.join(OWN)).split(os.pathsep) if Path(p).exists()]
CAMERA = "observation.images.primary"

pytestmark = pytest.mark.skipif(not PYTHONS, reason="no interpreter with lerobot; scripts/test makes one")


def source() -> vd.Source:
    return vd.open_source(ROOT / "tests/data/rollouts")


@pytest.fixture(params=PYTHONS or [""], ids=lambda path: path.split(os.sep)[-3] if path else "none")
def python(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def judged(python: str, root: Path, *words: str) -> dict[str, Any]:
    run = [python, str(ROOT / "tests/judges/lerobot_judge.py"), str(root), *words]
    done = subprocess.run(run, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("JUDGE ")]
    seen: dict[str, Any] = json.loads(line.removeprefix("JUDGE "))
    return seen


@pytest.fixture(scope="module")
def episodes() -> list[vd.Episode]:
    """What should be in the dataset: every step of the recipe on the real episodes."""
    found = (vd.curate(source().read(ref), vd.recipes.ppo_sft()).episode for ref in source().episodes())
    return [episode for episode in found if episode is not None]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(**options: Any) -> Path:
        root = tmp_path_factory.mktemp("lerobot") / "set"
        vd.run(source(), vd.recipes.ppo_sft(), vd.open_sink(root, **options))
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
    found = video.psnr(want, list(pixels))
    print(f"{settings.codec}: {found:.1f} dB")
    assert found >= least


def test_stock_tools_edit(python: str, make: Callable[..., Path], tmp_path: Path) -> None:
    root = make(images="png")
    edit = [str(Path(python).parent / "lerobot-edit-dataset"), "--repo_id", "judge/set", "--root", str(root)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_LEROBOT_HOME": str(tmp_path)}
    delete = ["--operation.type", "delete_episodes", "--operation.episode_indices", "[0]"]
    done = subprocess.run(
        [*edit, "--new_repo_id", "judge/deleted", *delete], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [*root.parent.rglob("meta/info.json"), *tmp_path.rglob("meta/info.json")]
    totals = sorted(json.loads(path.read_text())["total_episodes"] for path in found)
    assert totals == [1, 2]
