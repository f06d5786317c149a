"""What ``vla-train ript`` does besides training: say what there is, check its formulas, show a few groups."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import torch

from training_adapters.cloning import new_flow_policy, new_policy
from training_adapters.demonstrations import demonstrate
from training_adapters.envs.table import ENVS
from training_adapters.ppo.loss import clipped
from training_adapters.ript.branches import check_guided
from training_adapters.ript.config import ELSEWHERE, PRESETS, RIPTConfig
from training_adapters.ript.groups import Compared, Outcome, compare
from training_adapters.ript.ledger import sums
from training_adapters.ript.processor import AdvantageProcessor
from training_adapters.ript.program import Program
from training_adapters.ript.skips import PLAY, SKIP, Skips
from training_adapters.runs import Run
from vla_data.advantages import losses
from vla_data.errors import VerifyError

DEMO: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "num_train_steps": 1,
        "demo_batch_size": 6,
        "rloo_batch_size": 6,
        "rollout_goal_per_step": 0,
        "demo_updates": 600,
        "eval_episodes": 0,
        "gradient_accumulation_steps": 1,
        "learning_rate": 3e-4,
    }
)
"""Options of the demonstration."""

_GLUE: Final = {
    "torchrl": "training_adapters.ript.torchrl: the same groups through its MCAdvantage",
    "lerobot": "training_adapters.lerobot.guided: its flow policies under the guided loss",
    "openpi": "training_adapters.ript.samples: samples for its transforms",
    "wandb": "--wandb",
}


def info() -> list[str]:
    """What there is: presets, environments, packages, and what to type."""
    rows = [("option", *PRESETS)]
    rows += [
        (field.name, *(_text(vars(preset)[field.name]) for preset in PRESETS.values()))
        for field in fields(RIPTConfig)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines += ["", "options of the published TrainingConfig that are elsewhere:"]
    lines += [f"  {name}: {where}" for name, where in ELSEWHERE.items()]
    lines += ["", "environments:"]
    lines += [f"  {name}{_absent(row.needs, row.install)}" for name, row in ENVS.items()]
    lines += ["", "packages that it works with:"]
    lines += [f"  {name}{_absent(name, name)}: {what}" for name, what in _GLUE.items()]
    return [
        *lines,
        "",
        "vla-train ript --mode train --config debug --exp-name ript",
        "vla-data align runs/ript/rollouts OUT --pos-thresh 0.002 --rot-thresh none",
    ]


def test() -> list[str]:
    """Every check of `CHECKS`, a line each.

    Raises:
        VerifyError: E601, one does not hold here.
    """
    lines = []
    for name, check in CHECKS.items():
        if not check():
            raise VerifyError("E601", f"ript: {name}: does not hold on this machine")
        lines.append(f"ok  {name}")
    return lines


def demo(config: RIPTConfig, folder: Path | None) -> list[str]:
    """Play a few groups, and say what each rollout is worth; then one update.

    Args:
        config: the options.
        folder: of the run; None: it is removed in the end.
    """
    with tempfile.TemporaryDirectory() as place:
        run = Run(folder or Path(place) / "demo", config, out=None)
        with Program(config, run) as program:
            program.train(until=1)
            waves = list(program.collector.ledger)
            outcomes = [outcome for wave in waves for outcome in wave.outcomes(dropped=True)]
            compared = compare(outcomes, group_size=config.rloo_batch_size)
    wide = max((len(group.task) for wave in waves for group in wave.groups), default=0)
    lines = [f"{'task':<{wide}} {'start':<8} {'verdict':<8} rewards and advantages"]
    at = 0
    for wave in waves:
        for group in wave.groups:
            count = len(group.whole)
            pairs = zip(group.whole, compared.advantages[at : at + count], strict=True)
            told = "  ".join(f"{played.reward:g}:{advantage:+.2f}" for played, advantage in pairs)
            lines.append(f"{group.task:<{wide}} {group.init_hash[:8]} {group.verdict:<8} {told}")
            at += count
    counts = sums(iter(waves))
    lines.append(", ".join(f"{name} {count}" for name, count in counts.items()))
    where = f"kept in {folder}" if folder else "removed; --exp-name NAME keeps it"
    made = "one update was made" if counts["kept"] else "there was nothing to learn from"
    lines.append(f"{made}; the run is {where}")
    return lines


def _rloo() -> bool:
    table = {
        (1, 0, 0, 1): (2 / 3, -2 / 3, -2 / 3, 2 / 3),
        (1, 1, 1, 0): (1 / 3, 1 / 3, 1 / 3, -1),
        (2, 0.5, 0, 1): (1.5, -0.5, -7 / 6, 1 / 6),
        (1, 1, 1, 1): (0, 0, 0, 0),
    }
    return all(np.allclose(_compared(rewards).advantages, wanted) for rewards, wanted in table.items())


def _lost() -> bool:
    whole = [*_outcomes((1, 1, 0, 0), "a"), *_outcomes((0, 0, 0, 1), "b", group=1)]
    found = compare([*whole[:3], *whole[4:], whole[4]], group_size=4)
    wanted = (0.5, 0.5, -1, -1 / 3, -1 / 3, -1 / 3, 1)
    return np.allclose(found.advantages, wanted) and (found.incomplete, found.repeated) == (1, 1)


def _processed() -> bool:
    given = np.array([-2, -0.5, 0, 1, 4.0])
    standard = AdvantageProcessor(normalization="standard", clip_value=1.0)(given).advantages
    robust = AdvantageProcessor(normalization="robust", clipping="none")(given).advantages
    return np.allclose(standard, [-1, -0.447214, -0.223607, 0.223607, 1]) and np.allclose(robust, given)


def _formulas() -> bool:
    new, old, ones = np.array([[-0.8, -2.4, -0.5]]), np.array([[-1, -2, -0.5]]), np.ones((1, 3))
    chunk, token = (clipped(new, old, ones, np.ones(1), clip=0.2, per=per, xp=np)[0] for per in ("chunk", "token"))
    conditional, free, advantage = map(np.array, ([0.4, 0.8, 0.2], [0.5, 0.6, 0.3], [1, -0.333, -0.333]))
    guided = losses.cfg_losses(conditional, free, advantage, alpha=0.1)
    return np.allclose((chunk, token), (-0.818731, -0.956773)) and np.allclose(guided, [0.45, 0.06, 0.03])


def _skipping() -> bool:
    skips = Skips(solved=2, threshold=1)
    first = skips.decide("new")
    skips.note({"new": [True, True]})
    return (first, skips.decide("new")) == (PLAY, SKIP)


def _policies() -> bool:
    torch.manual_seed(0)
    data, slots = demonstrate(2, seed=0, horizon=8), ENVS["tabletop"].slots
    batch = data.batch(torch.arange(4))
    check_guided(new_flow_policy(data, slots=slots), batch)
    policy = new_policy(data, slots=slots)
    chunk = policy.act(batch, torch.Generator().manual_seed(0))
    with torch.no_grad():
        again = policy.score(batch, chunk.tokens, chunk.mask).log_prob
    return bool((again - chunk.log_prob).sum(dim=1).abs().max() < 1e-4)


CHECKS: Final[Mapping[str, Callable[[], bool]]] = MappingProxyType(
    {
        "leave-one-out advantages of four groups": _rloo,
        "a lost and a repeated rollout move no other": _lost,
        "advantages are normalised and clipped": _processed,
        "clipped and guided losses": _formulas,
        "a start of which nothing is known is played, a solved one skipped": _skipping,
        "a flow's branches are independent, and old and new log-probabilities of tokens agree": _policies,
    }
)
"""What `test` looks at."""


def _compared(rewards: Sequence[float]) -> Compared:
    return compare(_outcomes(rewards, "a"))


def _outcomes(rewards: Sequence[float], init_hash: str, *, group: int = 0) -> list[Outcome]:
    return [
        Outcome(task="t", init_hash=init_hash, policy_version=0, identity=(0, 0, group, member), reward=reward)
        for member, reward in enumerate(rewards)
    ]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _absent(module: str, install: str) -> str:
    if not module or importlib.util.find_spec(module) is not None:
        return ""
    return f" (not installed: pip install {install})"
