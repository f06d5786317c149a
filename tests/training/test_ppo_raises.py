"""Chunk PPO with FAST tokens raises success in the table-top scene, from three separately trained weak starts.

The protocol was fixed before these seeds were run: the ``laptop`` preset as it is, starts chosen by other episodes
than the result is of, 240 held-out starts before and after. `docs/training.md` has the figures.
"""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd  # noqa: E402
from tests.training.weak import weak_start  # noqa: E402
from training_adapters import checkpoints  # noqa: E402
from training_adapters.collect import collect  # noqa: E402
from training_adapters.envs.table import Place  # noqa: E402
from training_adapters.evaluate import Evaluation, evaluate  # noqa: E402
from training_adapters.intervals import Share  # noqa: E402
from training_adapters.ppo.config import PRESETS  # noqa: E402
from training_adapters.ppo.program import Program  # noqa: E402
from training_adapters.runs import Run  # noqa: E402
from training_adapters.sft.config import SFTConfig  # noqa: E402
from training_adapters.sft.program import Program as Sft  # noqa: E402

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]

SEEDS = (11, 12, 13)
BUDGET = 600.0
"""CPU seconds of training, as of one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A start, and what PPO made of it: each with its success at temperature 1 and greedily."""

    before: tuple[Evaluation, Evaluation]
    after: tuple[Evaluation, Evaluation]
    seconds: float
    curve: list[float]
    checkpoint: Path


def measured(model: object) -> tuple[Evaluation, Evaluation]:
    """240 held-out starts, at temperature 1 and greedily."""
    place = Place.of("tabletop")
    one, greedy = (evaluate(model, place, horizon=8, temperature=temperature) for temperature in (1.0, 0.0))
    return one, greedy


def curve(metrics: Path, points: int = 10) -> list[float]:
    """Success while training, in so many parts of the updates."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    ended = np.diff([0, *(row["episodes"] for row in rows)])
    solved = np.nan_to_num([row["success"] for row in rows]) * ended
    parts = np.array_split(np.arange(len(rows)), points)
    return [float(solved[part].sum() / ended[part].sum()) for part in parts]


@pytest.fixture(scope="session")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Raised]:
    folder = tmp_path_factory.mktemp("ppo")

    @functools.cache
    def made(seed: int) -> Raised:
        torch.set_num_threads(1)
        start = weak_start(folder / f"start_{seed}", seed=seed)
        config = replace(PRESETS["laptop"], start=str(start), seed=seed, eval_episodes=0)
        with Program(config, Run(folder / f"run_{seed}", config, out=io.StringIO())) as program:
            before = measured(program.model)
            began = time.process_time()
            checkpoint = program.train()
            seconds = time.process_time() - began
            after = measured(program.model)
        return Raised(
            before=before,
            after=after,
            seconds=seconds,
            curve=curve(folder / f"run_{seed}" / "metrics.jsonl"),
            checkpoint=checkpoint,
        )

    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_chunk_ppo_raises_success(raised: Callable[[int], Raised], seed: int) -> None:
    found = raised(seed)
    (one, greedy), (one_after, greedy_after) = found.before, found.after
    print(f"\nchunk PPO, seed {seed}, {found.seconds:.0f} CPU s: T = 1 {one.success} -> {one_after.success}")
    print(f"  greedy {greedy.success} -> {greedy_after.success}")
    print(f"  while training {', '.join(f'{rate:.2f}' for rate in found.curve)}")
    for verb in ("reach", "push", "lift"):
        print(f"  {verb} {of_verb(one, verb)} -> {of_verb(one_after, verb)}")
    assert 0.25 <= one.success.rate <= 0.55
    assert found.seconds < BUDGET
    assert one_after.malformed.count == greedy_after.malformed.count == 0
    assert one_after.success.rate > one.success.rate
    assert one_after.success.apart(one.success)


def of_verb(found: Evaluation, verb: str) -> Share:
    shares = [share for task, share in found.tasks.items() if task.startswith(verb)]
    return Share(sum(share.count for share in shares), sum(share.total for share in shares))


def test_a_fresh_policy_on_aligned_rollouts_reaches_the_one_that_played_them(
    raised: Callable[[int], Raised], tmp_path: Path
) -> None:
    """The circle, `examples/circle.sh`, and a policy on the same rollouts as they are: idle steps and failures."""
    found, place = raised(SEEDS[0]), Place.of("tabletop")
    policy = checkpoints.load(found.checkpoint).policy()
    tokens = policy.tokenizer.grammar.longest
    collect(policy, place, tmp_path / "rollouts", episodes=1_000, horizon=8, tokens=tokens, seed=5, images=False)
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=0.002, rot_thresh=None)
    source = vd.open_source(tmp_path / "rollouts", fps=20.0)
    vd.run(source, steps, vd.open_sink(tmp_path / "aligned", format="lerobot"))
    taught = {}
    for name, dataset in (("aligned", "aligned"), ("unaligned", "ppo_rollout:rollouts")):
        form, colon, where = dataset.rpartition(":")
        config = SFTConfig(dataset=f"{form}{colon}{tmp_path / where}", seed=5, updates=3_000, eval_episodes=0)
        program = Sft(config, Run(tmp_path / f"{name}-sft", config, out=io.StringIO()))
        program.train()
        taught[name] = measured(program.policy)
    played = {"PPO": found.after, **taught}
    for number, what in enumerate(("T = 1", "greedy")):
        shares = ", ".join(f"{name} {both[number].success}" for name, both in played.items())
        print(f"\nthe circle, {what}: {shares}")
    assert taught["aligned"][0].success.interval[1] >= found.after[0].success.interval[0]
