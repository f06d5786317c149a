"""The options of chunk PPO and their presets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from training_adapters import checked
from training_adapters.loop import PRECISIONS, SCHEDULES
from training_adapters.ppo.advantages import DISCOUNTS, TIME_LIMITS
from training_adapters.ppo.loss import RATIOS

KL_STOPS: Final = ("batch", "epoch")


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """How a policy is trained by chunk PPO; the defaults are those of the published chunk PPO for Pi0-FAST.

    Attributes:
        env: name of the environment; see `training_adapters.envs.table`.
        start: the policy to begin with: ``demos`` (cloned from ``demos`` episodes of the environment's scripted
            expert), or a checkpoint's folder. A random one has to be asked for: ``scratch``.
        total_timesteps: environment steps in all.
        num_chunks_per_update: chunks that are collected for an update.
        num_epochs_per_update: times that each of them is learnt from.
        batch_size: chunks of a step of the optimiser.
        accumulate: parts that such a batch is computed in.
        learning_rate: of the actor, at the schedule's 1.
        value_learning_rate: of the value head, likewise.
        schedule: ``linear``: both fall linearly to a tenth; ``warm_linear``: after a rise over the first 2 %;
            ``constant``: they stay.
        clip_coef: how far the ratio of probabilities counts.
        ratio: ``chunk`` or ``token``; see `training_adapters.ppo.loss.clipped`.
        ent_coef: of the mean entropy of the tokens.
        vf_coef: of the squared error of the value.
        max_grad_norm: bound of the gradient's norm, of actor and value head each.
        gamma: discount.
        discount: of what: ``step`` or ``chunk``; see `training_adapters.ppo.advantages.chunk_reward`.
        time_limit: ``cut``: an episode that it ended is worth its last observation, for tasks that would go on;
            ``end``: nothing more, for tasks that are to be solved within it.
        gae_lambda: of the advantages.
        target_kl: an update ends when the policy has moved further than this; None: never.
        kl_stop: when that is judged: after each ``batch``, by itself, or after each ``epoch``, by the mean of its
            batches. The estimate has a heavy tail, so that one chunk of a batch can end an update.
        value_warmup: updates at the beginning in which the value head alone learns.
        horizon: steps of a chunk; None: the environment's.
        lanes: environments side by side.
        temperature: of sampling.
        demos: episodes to clone for ``start = "demos"``.
        demo_updates: of the optimiser, to clone them.
        eval_episodes: held-out episodes before and after; 0: none.
        eval_every: updates between evaluations on other starts; 0: none.
        save_every: updates between checkpoints; 0: at the end alone.
        precision: ``no``, ``bf16`` or ``fp16``.
        seed: of everything that is drawn.
    """

    env: str = "tabletop"
    start: str = "demos"
    total_timesteps: int = 100_000
    num_chunks_per_update: int = 64
    num_epochs_per_update: int = 4
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float = 3e-4
    value_learning_rate: float = 1e-3
    schedule: str = "linear"
    clip_coef: float = 0.2
    ratio: str = "chunk"
    ent_coef: float = 0.01
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    gamma: float = 0.99
    discount: str = "step"
    time_limit: str = "cut"
    gae_lambda: float = 0.95
    target_kl: float | None = 0.05
    kl_stop: str = "batch"
    value_warmup: int = 0
    horizon: int | None = None
    lanes: int = 16
    temperature: float = 1.0
    demos: int = 120
    demo_updates: int = 900
    eval_episodes: int = 240
    eval_every: int = 0
    save_every: int = 0
    precision: str = "no"
    seed: int = 42

    def __post_init__(self) -> None:
        checked.texts(self, "env", "start", filled=True)
        checked.wholes(
            *(self, 1, "total_timesteps", "num_chunks_per_update", "num_epochs_per_update", "batch_size"),
            *("accumulate", "lanes", "demos", "demo_updates"),
        )
        checked.wholes(self, 1, "horizon", high=4096)
        checked.wholes(self, 0, "value_warmup", "eval_episodes", "eval_every", "save_every", "seed")
        checked.numbers(
            *(self, checked.LEAST, checked.MOST, "learning_rate", "value_learning_rate", "clip_coef"),
            *("max_grad_norm", "temperature", "target_kl"),
        )
        checked.numbers(self, 0.0, math.inf, "ent_coef", "vf_coef")
        checked.numbers(self, 0.0, 1.0, "gamma", "gae_lambda")
        words = {"ratio": RATIOS, "kl_stop": KL_STOPS, "discount": DISCOUNTS, "time_limit": TIME_LIMITS}
        checked.words(self, {**words, "schedule": tuple(SCHEDULES), "precision": PRECISIONS})
        if self.num_chunks_per_update % self.lanes:
            raise ValueError(
                f"num_chunks_per_update is {self.num_chunks_per_update}, which {self.lanes} lanes cannot share"
            )
        checked.shared(self, "accumulate", "batch_size", "chunks")


_DEBUG: Final = PPOConfig(
    total_timesteps=5_000,
    num_chunks_per_update=32,
    num_epochs_per_update=2,
    batch_size=8,
    learning_rate=1e-4,
    eval_episodes=36,
    demos=30,
    demo_updates=150,
)

PRESETS: Final[Mapping[str, PPOConfig]] = MappingProxyType(
    {
        "debug": _DEBUG,
        "full": replace(
            PPOConfig(), total_timesteps=500_000, num_chunks_per_update=128, batch_size=32, save_every=100
        ),
        "laptop": PPOConfig(
            total_timesteps=500_000,
            num_chunks_per_update=576,
            num_epochs_per_update=3,
            batch_size=128,
            learning_rate=2.5e-4,
            schedule="warm_linear",
            ratio="token",
            lanes=96,
            gamma=0.97,
            discount="chunk",
            time_limit="end",
            ent_coef=0.0,
            target_kl=None,
            value_warmup=1,
        ),
    }
)
"""``debug`` and ``full`` have the published numbers. ``laptop`` is for two cores: see `docs/training.md` for
what it was measured to do."""
