"""`verify --against` reads a dataset and its sources and finds any number, text or image that differs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import vla_data as vd
from converters.lerobot_source import LerobotSource
from vla_data.cli.verify import command as verify_command
from vla_data.codec import VideoSettings
from vla_data.frames import Frames
from vla_data.verify import verify

ROLLOUTS = Path(__file__).parent / "data/rollouts"
CAMERA = "observation.images.primary"

Change = Callable[[vd.Episode], vd.Episode]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("against")
    sinks = {"png": {"images": "png"}, "jpeg": {}, "h264": {"video": VideoSettings(codec="h264")}}
    for name, options in sinks.items():
        vd.run(vd.open_source(ROLLOUTS), (), vd.open_sink(root / name, **options), workers=1)
    vd.run(vd.open_source(root / "jpeg"), (), vd.open_sink(root / "again"), workers=1)
    curated = vd.recipes.ppo_sft(min_success_steps=6)
    vd.run(vd.open_source(ROLLOUTS), curated, vd.open_sink(root / "aligned"), workers=1)
    return root


def facts(path: Path, source: Path) -> dict[str, dict[str, float]]:
    verdict = verify(path, against=source)
    assert verdict.ok, verdict.damages
    found: dict[str, dict[str, float]] = verdict.checked["against"]["features"]
    return found


def test_lossless_is_equal(datasets: Path) -> None:
    camera = facts(datasets / "png", ROLLOUTS)[CAMERA]
    assert (camera["values"], camera["differing"], "psnr_min" in camera) == (105, 0, False)


def test_bytes_that_were_handed_on_are_counted(datasets: Path) -> None:
    assert facts(datasets / "again", datasets / "jpeg")[CAMERA]["same_bytes"] == 105


@pytest.mark.parametrize("name", ["jpeg", "h264"])
def test_the_loss_of_lossy_images_is_stated(name: str, datasets: Path) -> None:
    camera = facts(datasets / name, ROLLOUTS)[CAMERA]
    assert camera["differing"] == 0
    assert 30 < camera["psnr_min"] <= camera["psnr_mean"] < 60


def test_a_curated_dataset_is_compared_with_what_its_recipe_gives(datasets: Path) -> None:
    verdict = verify(datasets / "aligned", against=ROLLOUTS)
    assert verdict.ok
    ledger = vd.open_ledger(datasets / "aligned")
    kept = int(ledger.counts()["kept"])
    assert verdict.checked["against"]["features"]["action"]["values"] == 7 * kept < 7 * 105


def shifted(episode: vd.Episode) -> vd.Episode:
    frames = episode.frames[CAMERA]
    order = np.r_[1 : len(frames), len(frames) - 1]
    return replace(episode, frames={CAMERA: frames.take(order)})


def darker(episode: vd.Episode) -> vd.Episode:
    frames = episode.frames[CAMERA]
    items = [*frames.items]
    items[5] = (frames.pixels(5) // 8).astype(np.uint8)
    return replace(episode, frames={CAMERA: Frames(tuple(items), frames.height, frames.width)})


def nudged(episode: vd.Episode) -> vd.Episode:
    action = episode.arrays["action"].copy()
    action[3, 2] = np.nextafter(action[3, 2], np.float32(9))
    return replace(episode, arrays={**episode.arrays, "action": action})


CHANGES: dict[str, tuple[str, Change, str]] = {
    "a shift by one frame": ("h264", shifted, "resemble those one frame away"),
    "a shift by one frame, JPEG": ("jpeg", shifted, "resemble those one frame away"),
    "another picture": ("jpeg", darker, "differs from its source at frame 5"),
    "the last bit of a number": ("png", nudged, "action differs from its source at frame 3 and 0 other"),
    "another text": ("png", lambda e: replace(e, task="put carrot on the plate"), "another instruction"),
    "a missing step": ("png", lambda e: e.take(np.arange(1, len(e))), "steps, its source"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_is_found(what: str, datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that gives something else stands for a writer that wrote something else."""
    name, change, message = CHANGES[what]
    read = LerobotSource.read
    monkeypatch.setattr(LerobotSource, "read", lambda self, ref: change(read(self, ref)))
    verdict = verify(datasets / name, against=ROLLOUTS)
    assert {message in damage.problem for damage in verdict.damages} == {True}, verdict.damages
    assert {episode for damage in verdict.damages for episode in damage.episodes} == {
        record.id for record in vd.open_ledger(datasets / name).records
    }


def test_an_episode_that_is_gone_or_new_is_found(datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = LerobotSource.episodes
    monkeypatch.setattr(LerobotSource, "episodes", lambda self: listed(self)[:-1])
    problems = [damage.problem for damage in verify(datasets / "png", against=ROLLOUTS).damages]
    assert problems == ["is published by the ledger and not in the dataset"]


def test_the_command_says_how_each_feature_agrees(datasets: Path) -> None:
    done = CliRunner().invoke(verify_command, [str(datasets / "png"), "--against", str(ROLLOUTS)])
    assert done.exit_code == 0, done.output
    assert "    action: 735, equal\n" in done.output
    done = CliRunner().invoke(verify_command, [str(datasets / "png"), "--against", str(ROLLOUTS), "--json"])
    assert json.loads(done.stdout)["checked"]["against"]["compared"] == 3
