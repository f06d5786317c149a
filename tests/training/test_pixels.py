"""The policy that sees: what it reads, what teaches it, and each program with it in its smallest form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from click.testing import CliRunner  # noqa: E402

import vla_data as vd  # noqa: E402
from training_adapters import checkpoints  # noqa: E402
from training_adapters.cli import cli  # noqa: E402
from training_adapters.envs.features import TARGET_POSITION  # noqa: E402
from training_adapters.envs.lanes import Lanes, observations  # noqa: E402
from training_adapters.envs.starts import COLOURS  # noqa: E402
from training_adapters.envs.table import Place  # noqa: E402
from training_adapters.policies.pixels import TARGET, PixelPolicy, new_pixel_policy  # noqa: E402
from training_adapters.policies.value import ActorCritic  # noqa: E402

PLACE = Place.of("tabletop")
CAMERAS = PLACE.row.pixels["cameras"]
WORDS = ("block", "blue", "forward", "green", "lift", "push", "reach", "red", "the")
TASKS = ("reach the red block", "lift the blue block", "push the green block forward")


def policy() -> PixelPolicy:
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    actions = random.normal(size=(20, 8, 7)).astype(np.float32)
    return new_pixel_policy(
        *(random.normal(size=(20, 19)).astype(np.float32), actions, WORDS),
        slots=PLACE.row.slots,
        pixels=PLACE.row.pixels,
    )


def batch(count: int = 3) -> dict[str, Any]:
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (len(CAMERAS), count, 64, 64, 3), dtype=np.uint8)
    return {
        "observation.state": torch.from_numpy(random.normal(size=(count, 19)).astype(np.float32)),
        "task": [TASKS[row % 3] for row in range(count)],
        "action": torch.from_numpy(random.uniform(-0.5, 0.5, (count, 8, 7)).astype(np.float32)),
        **{f"observation.images.{name}": torch.from_numpy(images[n]) for n, name in enumerate(CAMERAS)},
    }


def test_it_reads_cameras_prompt_and_its_own_numbers_and_no_others() -> None:
    made, given = policy(), batch()
    said = made.log_probs(given)
    blind = given["observation.state"].clone()
    blind[:, 6:18] = torch.nan  # where the blocks are
    assert torch.equal(
        made.log_probs({**given, "observation.state": blind, TARGET: torch.full((3, 3), 9.0)}), said
    )
    for name in ("observation.images.top", "observation.images.side"):
        assert not torch.equal(made.log_probs({**given, name: given[name].flip(1)}), said)
    assert not torch.equal(made.log_probs({**given, "task": [TASKS[2], TASKS[0], TASKS[1]]}), said)
    moved = given["observation.state"].clone()
    moved[:, 2] += 0.1
    assert not torch.equal(made.log_probs({**given, "observation.state": moved}), said)


def test_the_label_teaches_the_pointer_and_only_where_there_is_one() -> None:
    made, given = policy(), batch()
    point = made.point(given).detach()
    plain = made.loss(given)
    assert torch.equal(made.loss({**given, TARGET: point}), plain)
    # Errors of 2 cm in each number: by 3 (0.2 - 0.05), beyond the square of small ones.
    taught = made.loss({**given, TARGET: point + 0.02})
    torch.testing.assert_close(taught, plain + 3 * 0.15, rtol=0, atol=1e-5)


def test_a_lane_looks_where_its_policy_does_and_sees_what_is_there() -> None:
    begins, actions = PLACE.held_out(2), np.full((2, 8, 7), 0.01)
    seen = []
    for options in ({"cameras": CAMERAS}, {"looks": CAMERAS}):
        todo = list(begins)
        side = Lanes(PLACE, count=2, horizon=8, begins=lambda todo=todo: todo.pop(0), **options)  # type: ignore[misc]
        side.begin()
        first = side.observations()
        moved = side.step(actions)
        assert ("pixels" in moved[0].last) == ("cameras" in options)
        seen.append([first, side.observations()])
        side.close()
    for rendered, looked in zip(*seen, strict=True):
        for camera in CAMERAS:
            name = f"observation.images.{camera}"
            assert torch.equal(rendered[name], looked[name])
    assert not torch.equal(seen[0][0]["observation.images.top"], seen[0][1]["observation.images.top"])


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pixels")
    cameras = [word for camera in CAMERAS for word in ("--camera", camera)]
    run("collect", "--expert", "--episodes", "9", *cameras, str(folder / "rollouts"))
    return folder / "rollouts"


def run(*words: str) -> str:
    done = CliRunner().invoke(cli, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_recordings_have_both_cameras_and_the_declared_label(rollouts: Path) -> None:
    source = vd.open_source(rollouts)
    for ref in source.episodes():
        episode = source.read(ref)
        assert set(episode.frames) == {f"observation.images.{camera}" for camera in CAMERAS}
        state, block = episode.arrays["observation.state"], COLOURS.index(episode.task.split()[2])
        hand = state[:, :3] + np.array([0, 0, 0.15])
        away = state[:, 6 + 4 * block : 9 + 4 * block]
        np.testing.assert_allclose(episode.arrays[TARGET_POSITION], hand + away, atol=1e-6)
        meaning = source.schema(episode).features[TARGET_POSITION].convention
        assert (meaning["kind"], meaning["translation_unit"], meaning["frame"]) == ("absolute", "m", "robot_base")


def test_each_program_sees(rollouts: Path, tmp_path: Path) -> None:
    """sft with and without the label, eval, collect and PPO, whose first ratio is 1."""
    options = {"updates": 3, "batch_size": 8, "log_every": 1, "eval_episodes": 0}
    pairs = [word for name, value in options.items() for word in ("--set", f"{name}={value}")]
    where = ["--runs", str(tmp_path), "--dataset", f"ppo_rollout:{rollouts}", "--obs", "pixels"]
    losses = {}
    for name, label in (("plain", ""), ("taught", TARGET_POSITION)):
        run("sft", "--exp-name", name, *where, *pairs, "--set", f"auxiliary={label}")
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = [json.loads(line)["loss"] for line in lines]
    assert losses["taught"][0] > losses["plain"][0] + 0.1  # of the same parameters and frames
    saved = checkpoints.load(tmp_path / "taught")
    facts = json.loads(run("eval", "--checkpoint", str(saved.folder), "--episodes", "2", "--json"))
    assert (facts["success"]["total"], facts["malformed_chunks"]) == (2, 0)
    run("collect", "--checkpoint", str(saved.folder), "--episodes", "1", str(tmp_path / "played"))
    assert set(next(iter(_episodes(tmp_path / "played"))).frames) == {
        f"observation.images.{camera}" for camera in CAMERAS
    }
    ppo = {"total_timesteps": 60, "lanes": 4, "num_chunks_per_update": 8, "batch_size": 8, "eval_episodes": 0}
    more = [word for name, value in ppo.items() for word in ("--set", f"{name}={value}")]
    run("ppo", "--exp-name", "ppo", "--runs", str(tmp_path), "--start", str(saved.folder), *more)
    model, whole = checkpoints.load(tmp_path / "ppo").actor_critic()
    assert whole
    assert isinstance(model.actor_backbone, PixelPolicy)


def _episodes(folder: Path) -> Any:
    source = vd.open_source(folder)
    return (source.read(ref) for ref in source.episodes())


def test_the_ratio_is_one_before_the_first_update() -> None:
    model, given = ActorCritic(policy()), batch(6)
    chunk = model.act(given, torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = model.score(given, chunk.tokens, chunk.mask).log_prob
    assert torch.equal(again, chunk.log_prob)
    assert model.cameras == CAMERAS
    assert model.value(observations([{"agent_pos": np.zeros(19)}], TASKS[:1])).shape == (1,)


def test_an_environment_without_sight_is_refused(tmp_path: Path) -> None:
    from training_adapters.sft.config import SFTConfig

    with pytest.raises(ValueError, match="auxiliary is for policies that see"):
        SFTConfig(dataset="x", auxiliary=TARGET_POSITION)
    with pytest.raises(ValueError, match="obs is 'images'"):
        SFTConfig(dataset="x", obs="images")
