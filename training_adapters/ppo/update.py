"""An update of an actor and its value head by the clipped loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training_adapters.loop import Optimisation
from training_adapters.policies.value import ActorCritic
from training_adapters.ppo.buffer import Rollout, partition
from training_adapters.ppo.config import PPOConfig
from training_adapters.ppo.loss import clipped, divergence, log_ratio

ACTOR, CRITIC = 0, 1
"""Places of the groups of parameters."""

METRICS: Final = ("policy_loss", "value_loss", "entropy", "kl", "clip_share")
"""Loss of chunks; mean squared error; entropy of tokens in nats; divergence of chunks from the policy that sampled
them, in nats; share of chunks (or tokens) whose ratio was clipped."""


@dataclass(slots=True)
class Told:
    """What the batches of an update said, one row a part.

    Attributes:
        rows: by the names of `METRICS`.
        epochs: that were begun; fewer than configured where the bound of the divergence ended them.
    """

    rows: list[tuple[float, ...]] = field(default_factory=list)
    epochs: int = 0

    def means(self) -> dict[str, float]:
        """Over all parts."""
        return dict(zip(METRICS, np.mean(self.rows, axis=0).tolist(), strict=True))

    def beyond(self, bound: float | None, begun: int) -> bool:
        """Whether the mean divergence of the parts from ``begun`` on is above a bound."""
        kl = METRICS.index("kl")
        return bound is not None and float(np.mean([row[kl] for row in self.rows[begun:]])) > bound


def update(
    optimisation: Optimisation,
    rollout: Rollout,
    config: PPOConfig,
    generator: torch.Generator,
    *,
    share: float,
    warmup: bool = False,
) -> Told:
    """Learn from a rollout: each epoch a new partition of it, until the policy has moved far enough.

    Args:
        optimisation: of an `ActorCritic`, with the actor's group first and the value head's second.
        rollout: what was collected.
        config: of the losses.
        generator: of the partitions.
        share: of the training that is done.
        warmup: the value head alone learns.
    """
    told = Told()
    for epoch in range(config.num_epochs_per_update):
        told.epochs, begun = epoch + 1, len(told.rows)
        for rows in partition(len(rollout), config.batch_size, generator):
            parts = [rollout.pick(part) for part in rows.chunk(config.accumulate)]
            optimisation.step(
                lambda part: losses(optimisation.model, part, config, told),
                parts,
                share=share,
                only=[CRITIC] if warmup else None,
            )
            if config.kl_stop == "batch" and told.beyond(config.target_kl, len(told.rows) - len(parts)):
                return told
        if told.beyond(config.target_kl, begun):
            return told
    return told


def losses(model: ActorCritic, part: Rollout, config: PPOConfig, told: Told) -> Tensor:
    """``(B,)``: clipped loss, less entropy, plus the squared error of the value."""
    scores, value = model(part.observations, part.tokens, part.mask, temperature=config.temperature)
    mask = part.mask.to(scores.log_prob.dtype)
    policy = clipped(
        scores.log_prob, part.log_prob, mask, part.advantage, clip=config.clip_coef, per=config.ratio, xp=torch
    )
    entropy = scores.entropy.sum(-1) / mask.sum(-1)
    error = (value - part.value_target) ** 2
    with torch.no_grad():
        log = log_ratio(scores.log_prob, part.log_prob, mask, per=config.ratio)
        far = ((log.exp() - 1).abs() > config.clip_coef).float()
        share = far.mean() if config.ratio == "chunk" else (far * mask).sum() / mask.sum()
        moved = divergence(scores.log_prob, part.log_prob, mask, xp=torch).mean()
        row = (policy.mean(), error.mean(), entropy.mean(), moved, share)
    told.rows.append(tuple(value.item() for value in row))
    out: Tensor = policy - config.ent_coef * entropy + config.vf_coef * error
    return out
