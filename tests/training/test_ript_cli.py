"""``vla-train ript`` as it is typed, and what becomes of its rollouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd
from tests.training.test_cli import typed
from training_adapters.cli import cli
from training_adapters.ript.config import ELSEWHERE, PRESETS, RIPTConfig
from training_adapters.ript.samples import REPACK, Samples, collate
from vla_data.cli import cli as data_cli
from vla_data.errors import DataError, UsageError, VlaDataError

SMALL = ("demos=9", "demo_updates=60", "eval_episodes=9", "demo_batch_size=2", "rloo_batch_size=2")


def run(*words: str, command: Any = cli) -> str:
    """What a command prints, in this process."""
    return CliRunner().invoke(command, list(words), catch_exceptions=False, standalone_mode=False).output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the smallest form, with images."""
    folder = tmp_path_factory.mktemp("runs")
    options = [word for pair in (*SMALL, f"images={json.dumps(_can_render())}") for word in ("--set", pair)]
    run("ript", "--mode", "train", "--config", "debug", "--exp-name", "ript", "--runs", str(folder), *options)
    return folder / "ript"


def _can_render() -> bool:
    from training_adapters.envs.tabletop import Tabletop

    env = Tabletop(cameras=("top",))
    try:
        env.reset(seed=0)
    except UsageError:
        return False
    finally:
        env.close()
    return True


@pytest.fixture(scope="module")
def aligned(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the rollouts, by the command; all of them, solved or not."""
    out = tmp_path_factory.mktemp("aligned") / "OUT"
    keep = ("--min-success-steps", "0", "--pos-thresh", "none", "--rot-thresh", "none")
    run("align", str(trained / "rollouts"), str(out), *keep, command=data_cli)
    return out


def test_a_run_has_what_it_says(trained: Path) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert result["before"]["success"]["total"] == result["after"]["success"]["total"] == 9
    assert {"config.json", "groups.jsonl", "metrics.jsonl", "rollout_stats.json", "rollouts"} <= {
        path.name for path in trained.iterdir()
    }
    assert [path.name for path in sorted(trained.glob("step_*"))] == ["step_0", "step_1", "step_2"]
    assert len(list((trained / "rollouts").glob("*.npz"))) == 2 * 2 * 2


def test_align_takes_every_rollout(trained: Path, aligned: Path) -> None:
    source = vd.open_source(aligned)
    facts = [source.read(ref).meta["episode_metadata"] for ref in source.episodes()]
    assert len(facts) == 8
    assert all({"init_hash", "policy_version", "wave", "group", "member"} <= fact.keys() for fact in facts)


@pytest.mark.parametrize("kind", ["rollouts", "aligned"])
def test_samples_are_the_rollouts(trained: Path, aligned: Path, kind: str) -> None:
    dataset = trained / "rollouts" if kind == "rollouts" else aligned
    images = _can_render()
    cameras = {"base_0_rgb": "observation.images.primary"} if images else {}
    samples = Samples(dataset, horizon=8, cameras=cameras, run=trained)
    sample = samples[0]
    assert sample.keys() == {
        *("image", "state", "action_chunk", "action_is_pad", "prompt", "advantages", "init_hash")
    }
    assert sample["action_chunk"].shape == (8, 7)
    assert (sample["state"].shape, sample["state"].dtype) == ((19,), np.float32)
    assert (sample["action_is_pad"].shape, sample["action_is_pad"].dtype) == ((8,), np.bool_)
    assert (sample["advantages"].shape, sample["advantages"].dtype) == ((8,), np.float32)
    if images:
        assert sample["image"]["base_0_rgb"].shape == (64, 64, 3)
        assert sample["image"]["base_0_rgb"].dtype == np.uint8
    known = {episode["init_hash"] for episode in _facts(dataset)}
    assert sample["init_hash"] in known
    assert samples[-1]["action_is_pad"].tolist() == [False] + [True] * 7


def _facts(dataset: Path) -> list[dict[str, Any]]:
    source = vd.open_source(dataset)
    return [dict(source.read(ref).meta["episode_metadata"]) for ref in source.episodes()]


def test_advantages_of_samples_are_of_their_own_rollout(trained: Path, aligned: Path) -> None:
    from training_adapters.ript.groups import compare
    from training_adapters.ript.ledger import Ledger

    found = compare(one for wave in Ledger(trained) for one in wave.outcomes(dropped=True))
    wanted = dict(zip((one.identity for one in found.outcomes), found.advantages, strict=True))
    samples = Samples(aligned, horizon=4, run=trained)
    lengths = [len(vd.open_source(aligned).read(ref).index) for ref in vd.open_source(aligned).episodes()]
    at = 0
    for facts, length in zip(_facts(aligned), lengths, strict=True):
        identity = tuple(facts[name] for name in ("policy_version", "wave", "group", "member"))
        for place in (at, at + length - 1):
            np.testing.assert_allclose(samples[place]["advantages"], wanted[identity], atol=1e-6)
            assert samples[place]["init_hash"] == facts["init_hash"]
        at += length
    assert at == len(samples)


def test_a_dataset_without_hashes_gives_samples_without(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path / "plain", fps=20) as writer:
        episode = writer.episode(task="do it")
        for _ in range(3):
            episode.add({"observation.state": np.zeros(4, np.float32), "action": np.ones(2, np.float32)})
        episode.end()
    samples = Samples(tmp_path / "plain", horizon=2)
    assert samples[0].keys() == {"image", "state", "action_chunk", "action_is_pad", "prompt"}
    with pytest.raises(IndexError):
        samples[3]


def test_a_dataset_of_another_run_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"E003 .*is no run of RIPT"):
        Samples(trained / "rollouts", horizon=8, run=tmp_path)
    (tmp_path / "groups.jsonl").write_text("")
    with pytest.raises(DataError, match=r"E302 .*is none of the rollouts"):
        Samples(trained / "rollouts", horizon=8, run=tmp_path)
    with pytest.raises(UsageError, match="E001"):
        Samples(trained / "rollouts", horizon=8, run=trained, annotation="v1")


def test_samples_go_through_our_transforms(trained: Path) -> None:
    from vla_data.mixtures.transforms import StateDim

    samples = Samples(trained / "rollouts", horizon=8, run=trained)
    batch = collate([samples[0], samples[1]])
    made = StateDim(dim=32).forward(batch)
    assert made["observation.state"].shape == (2, 32)
    assert made["observation.state_mask"].sum() == 2 * 19
    np.testing.assert_array_equal(made["action"], batch["action"])
    np.testing.assert_array_equal(made["advantage"], batch["advantage"])


def test_samples_keep_openpis_contract(trained: Path) -> None:
    """What its transforms read: names with / for nested keys, arrays, uint8 images in height, width, channels."""
    images = _can_render()
    cameras = {"base_0_rgb": "observation.images.primary"} if images else {}
    sample = Samples(trained / "rollouts", horizon=8, cameras=cameras)[0]
    flat = {f"image/{name}": value for name, value in sample["image"].items()} | {
        name: value for name, value in sample.items() if name != "image"
    }
    assert set(REPACK.values()) <= flat.keys()
    assert isinstance(sample["prompt"], str)
    assert sample["action_chunk"].ndim == 2
    for name in cameras:
        assert flat[f"image/{name}"].dtype == np.uint8
        assert flat[f"image/{name}"].shape[-1] == 3


def test_openpis_transforms_take_a_sample(trained: Path) -> None:
    transforms = pytest.importorskip("openpi.transforms")
    images = _can_render()
    cameras = {"base_0_rgb": "observation.images.primary"} if images else {}
    sample = Samples(trained / "rollouts", horizon=8, cameras=cameras)[0]
    structure = {**REPACK, "image": {name: f"image/{name}" for name in cameras}}
    repacked = transforms.RepackTransform(structure)(sample)
    resized = transforms.ResizeImages(224, 224)(repacked) if images else repacked
    padded = transforms.PadStatesAndActions(32)(resized)
    assert padded["state"].shape == (32,)
    assert padded["actions"].shape == (8, 32)
    np.testing.assert_array_equal(padded["actions"][:, :7], sample["action_chunk"])


def test_info_names_every_option() -> None:
    printed = run("ript", "--mode", "info")
    for name in (*vars(PRESETS["full"]), *ELSEWHERE):
        assert f"{name}" in printed
    assert "vla-train ript --mode train --config debug --exp-name ript" in printed


def test_the_formulas_hold_here() -> None:
    printed = run("ript", "--mode", "test")
    assert printed.count("ok  ") == len(printed.splitlines()) == 6


def test_a_formula_that_does_not_hold_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from training_adapters.ript import groups

    monkeypatch.setattr(groups, "rloo", lambda *args, **options: _off(*args, **options))
    with pytest.raises(VlaDataError, match=r"E601 .*leave-one-out advantages"):
        run("ript", "--mode", "test")


def _off(*args: Any, **options: Any) -> Any:
    from dataclasses import replace

    from vla_data.advantages.numbers.groups import rloo

    found = rloo(*args, **options)
    return replace(found, advantages=found.advantages + 0.1)


def test_a_demonstration_shows_groups(tmp_path: Path) -> None:
    options = [word for pair in ("demos=9", "demo_updates=5", "demo_batch_size=2") for word in ("--set", pair)]
    lines = run("ript", "--mode", "demo", *options).splitlines()
    printed = [line for line in lines if not line.startswith("[")]  # without progress
    assert len(printed) == 1 + 2 + 1 + 1
    assert "starts 2" in printed[-2]
    assert "groups 2" in printed[-2]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--set", "enable_amp=true"], "E001", "enable_amp is no option here: it is precision"),
        (["--set", "target_state_dim=14"], "E001", "the transform StateDim"),
        (["--set", "rloo_batch_size=1"], "E001", "rloo_batch_size is 1"),
        (["--set", "advantage_negative_handling=softplus", "--set", "optimisation=cfg"], "E001", "reads the sign"),
        (["--start", "nowhere"], "E003", "is not a checkpoint"),
        (["--env", "tabltop"], "E001", "known are gym_aloha"),
        (["--resume"], "E003", "there is no run to go on with"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], code: str, says: str) -> None:
    with pytest.raises(VlaDataError, match=says) as caught:
        run("ript", "--exp-name", "x", "--runs", str(tmp_path), *words)
    assert caught.value.code == code


def test_training_needs_a_name(tmp_path: Path) -> None:
    done = typed("ript", "--mode", "train", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vla-train: E001 usage: --exp-name is missing")


def test_a_policy_of_a_flow_is_played_and_measured(tmp_path: Path) -> None:
    options = ("demos=9", "demo_updates=5", "eval_episodes=0", "demo_batch_size=2", "rloo_batch_size=2")
    words = [word for pair in (*options, "num_train_steps=1", "optimisation=cfg") for word in ("--set", pair)]
    run("ript", "--config", "debug", "--exp-name", "flow", "--runs", str(tmp_path), *words)
    printed = run("eval", "--checkpoint", str(tmp_path / "flow"), "--episodes", "9")
    assert printed.splitlines()[-1].split()[0] == "all"
    printed = run(
        *("collect", "--checkpoint", str(tmp_path / "flow"), "--episodes", "2", "--no-images"),
        str(tmp_path / "more"),
    )
    assert printed.startswith("2 episodes, 0 dropped")


def test_presets_can_be_made() -> None:
    for preset in PRESETS.values():
        assert RIPTConfig(**vars(preset)) == preset
