"""`verify --against` reads a dataset and its sources and finds any number, text or image that differs."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import vla_data as vd
from converters.lerobot.source import LerobotSource
from tests.paths import TESTS
from tests.rollouts import rollout, save
from vla_data.cli.verify import command as verify_command
from vla_data.media.frames import Frames
from vla_data.media.video_settings import VideoSettings
from vla_data.verification.check import verify
from vla_data.verification.lossy import Encoder, is_plausible

ROLLOUTS = TESTS / "data/rollouts"
CAMERA = "observation.images.primary"

Change = Callable[[vd.Episode], vd.Episode]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("against")
    sinks = {"png": {"images": "png"}, "jpeg": {}} | {
        codec: {"video": VideoSettings(codec=codec)} for codec in ("h264", "av1")
    }
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


@pytest.mark.parametrize("name", ["jpeg", "h264", "av1"])
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


def each(episode: vd.Episode, change: Callable[[NDArray[np.uint8]], None]) -> vd.Episode:
    """The episode with every image changed in place."""
    frames = episode.frames[CAMERA]
    items = [np.array(frames.pixels(t)) for t in range(len(frames))]
    for item in items:
        change(item)
    return replace(episode, frames={CAMERA: Frames(tuple(items), frames.height, frames.width)})


def masked(episode: vd.Episode) -> vd.Episode:
    """A block of every image is black, which leaves a PSNR of 23 dB and more."""

    def black(image: NDArray[np.uint8]) -> None:
        image[32:64, 48:80] = 0

    return each(episode, black)


def touched(episode: vd.Episode) -> vd.Episode:
    """One value of every image is another by one."""

    def touch(image: NDArray[np.uint8]) -> None:
        image[7, 9, 1] ^= 1

    return each(episode, touch)


CHANGES: dict[str, tuple[str, Change, str]] = {
    "a shift by one frame": ("h264", shifted, "resemble those one frame away"),
    "a shift by one frame, JPEG": ("jpeg", shifted, "resemble those one frame away"),
    "another picture": ("jpeg", darker, "differs from its source at frame 5"),
    **{
        f"{what}, {name}": (name, change, "differs from its source at frame 0")
        for what, change in (("a black block in every image", masked), ("a value of every image", touched))
        for name in ("png", "jpeg", "h264", "av1")
    },
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
    assert problems == ["is published in the ledger, but not in the dataset"]


def test_the_command_says_how_each_feature_agrees(datasets: Path) -> None:
    done = CliRunner().invoke(verify_command, [str(datasets / "png"), "--against", str(ROLLOUTS)])
    assert done.exit_code == 0, done.output
    assert re.search(r"^  action +735  equal$", done.output, re.MULTILINE)
    done = CliRunner().invoke(verify_command, [str(datasets / "png"), "--against", str(ROLLOUTS), "--json"])
    assert json.loads(done.stdout)["checked"]["against"]["compared"] == 3


@pytest.mark.parametrize("name", ["png", "jpeg", "h264"])
def test_all_images_that_differ_are_counted(name: str, datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = LerobotSource.read
    monkeypatch.setattr(LerobotSource, "read", lambda self, ref: masked(read(self, ref)))
    camera = verify(datasets / name, against=ROLLOUTS).checked["against"]["features"][CAMERA]
    assert (camera["differing"], camera["values"]) == (105, 105)


@pytest.mark.parametrize("options", [{}, {"video": VideoSettings()}, {"video": VideoSettings(codec="h264")}])
def test_noise_is_equal_however_much_is_lost(options: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = rollout(8, images="arrays")
    data["image"] = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in data["image"]]
    save(tmp_path / "noise", "a.npz", data)
    vd.run(vd.open_source(tmp_path / "noise"), (), vd.open_sink(tmp_path / "out", **options), workers=1)
    (camera,) = [
        f for n, f in facts(tmp_path / "out", tmp_path / "noise").items() if n.startswith("observation.images")
    ]
    assert camera["differing"] == 0
    assert camera["psnr_mean"] < 20


def other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dict.fromkeys(("av", "pillow", "simplejpeg"), "0.1")
    monkeypatch.setattr("vla_data.verification.lossy.versions", lambda sink: made)


@pytest.mark.parametrize("name", ["jpeg", "h264", "av1"])
def test_other_versions_may_lose_a_little_more(name: str, datasets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other_versions(monkeypatch)
    read = LerobotSource.read
    monkeypatch.setattr(LerobotSource, "read", lambda self, ref: touched(read(self, ref)))
    assert facts(datasets / name, ROLLOUTS)[CAMERA]["differing"] == 0
    monkeypatch.setattr(LerobotSource, "read", lambda self, ref: masked(read(self, ref)))
    verdict = verify(datasets / name, against=ROLLOUTS)
    assert verdict.checked["against"]["features"][CAMERA]["differing"] == 105
    monkeypatch.setattr(LerobotSource, "read", lambda self, ref: shifted(read(self, ref)))
    assert not verify(datasets / name, against=ROLLOUTS).ok


def test_images_that_were_handed_on_are_equal_whatever_the_versions(
    datasets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other_versions(monkeypatch)
    source = LerobotSource(root=datasets / "jpeg")
    read = LerobotSource.read
    monkeypatch.setattr(
        LerobotSource, "read", lambda self, ref: (touched if self != source else lambda e: e)(read(self, ref))
    )
    camera = verify(datasets / "again", against=datasets / "jpeg").checked["against"]["features"][CAMERA]
    assert camera["differing"] == 105


def pillow(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=2)
    return np.asarray(Image.open(buffer).convert("RGB"))


def test_another_jpeg_library_is_plausible_and_a_worse_quality_is_not(datasets: Path) -> None:
    """Pillow's encoder is the other library: 0.3 dB a block more at most here, and 4.5 dB with quality 75."""
    source = vd.open_source(ROLLOUTS)
    frames = source.read(source.episodes()[0]).frames[CAMERA]
    again = Encoder(vd.open_sink(datasets / "new"), {}).again(frames, CAMERA, fps=5)
    for t in range(len(frames)):
        image = frames.pixels(t)
        assert is_plausible(image, again.pixels(t), pillow(image, 95))
        assert not is_plausible(image, again.pixels(t), pillow(image, 75))


def test_renamed_sources_are_told_by_their_digests(datasets: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(ROLLOUTS.glob("*.np[yz]"), reverse=True)):
        shutil.copy(path, tmp_path / f"new_{number}{path.suffix}")
    verdict = verify(datasets / "jpeg", against=tmp_path)
    assert verdict.ok, verdict.damages
    assert verdict.checked["against"]["compared"] == 3
    (note,) = verdict.notes
    assert "files of the source were renamed: 3 episodes were told by their digests" in note


def test_other_sources_are_not_taken_for_renamed_ones(datasets: Path, tmp_path: Path) -> None:
    save(tmp_path, "a.npz", rollout(9))
    problems = {damage.problem for damage in verify(datasets / "jpeg", against=tmp_path).damages}
    assert problems == {"is not in the source"}


def test_a_sample_compares_some_episodes_and_says_how_many(datasets: Path) -> None:
    verdict = verify(datasets / "jpeg", against=ROLLOUTS, sample=0.5, seed=1)
    assert verdict.ok
    assert verdict.checked["against"]["compared"] == 2
    assert "2 of 3 episodes were compared with their sources" in verdict.notes
