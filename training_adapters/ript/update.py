"""An update of a policy from the chunks of groups: by the clipped loss of tokens, or the guided loss of a flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from training_adapters.loop import Optimisation
from training_adapters.policies.asked import AskedFlow
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policy import Scores
from training_adapters.ppo.buffer import partition, stack
from training_adapters.ppo.loss import clipped, divergence, log_ratio
from training_adapters.ript.branches import guided_losses
from training_adapters.ript.config import RIPTConfig
from training_adapters.ript.rollouts import Chunks
from vla_data.errors import UsageError

AGREES: Final = 1e-2
"""How far the log-probability of a chunk may be from what was recorded, for the same policy, in nats."""
_LOOK: Final = 256  # chunks that are looked at at once


@dataclass(slots=True)
class Told:
    """What the parts of an update said.

    Attributes:
        rows: metric -> its value in each part.
        epochs: that were begun.
        drift: the largest difference of a chunk's log-probability, before the first step, from what was recorded.
    """

    rows: dict[str, list[float]] = field(default_factory=dict)
    epochs: int = 0
    drift: float = float("nan")

    def add(self, **values: Tensor) -> None:
        """A part's."""
        for name, value in values.items():
            self.rows.setdefault(name, []).append(value.item())

    def means(self) -> dict[str, float]:
        """Over all parts."""
        return {name: float(np.mean(values)) for name, values in self.rows.items()}

    def last(self, name: str, parts: int) -> float:
        """A metric's mean over the last parts."""
        return float(np.mean(self.rows[name][-parts:]))


def update(
    optimisation: Optimisation, chunks: Chunks, config: RIPTConfig, generator: torch.Generator, *, share: float
) -> Told:
    """Learn from chunks: each epoch a new partition of them, until the policy has moved far enough.

    Args:
        optimisation: of a `TokenPolicy` (``ppo``) or a `AskedFlow` (``cfg``).
        chunks: with their advantages, and for ``ppo`` their tokens.
        config: of the losses.
        generator: of the partitions and of noise.
        share: of the training that is done.

    Raises:
        UsageError: E301, the chunks are not of this policy.
    """
    told, model = Told(), optimisation.model
    cfg = config.optimisation == "cfg"
    old = torch.zeros(len(chunks), 1) if cfg else _old(optimisation, chunks, config, told)

    def losses(rows: Tensor) -> Tensor:
        part = chunks.pick(rows)
        if cfg:
            return _guided(model, part, config, generator, told)
        return _clipped(model, part, old[rows], config, told)

    for epoch in range(config.num_ppo_epochs):
        told.epochs = epoch + 1
        for rows in partition(len(chunks), config.batch_size, generator):
            parts = rows.chunk(config.gradient_accumulation_steps)
            optimisation.step(losses, parts, share=share)
            if not cfg and config.target_kl is not None and told.last("kl", len(parts)) > config.target_kl:
                return told
    return told


def _old(optimisation: Optimisation, chunks: Chunks, config: RIPTConfig, told: Told) -> Tensor:
    """What the policy thought when it acted: ``(N, L)`` of tokens, or ``(N, 1)`` of whole chunks.

    Of whole chunks it is what was recorded; but in another precision than it acted in, what it thinks in that.
    """
    anew = config.ratio == "token" or config.precision != "no"
    rows = torch.arange(len(chunks) if anew else min(len(chunks), _LOOK))
    with torch.no_grad(), optimisation.autocast():
        now = [
            _score(optimisation.model, chunks.pick(part), config).log_prob.float() for part in rows.split(_LOOK)
        ]
    sums = torch.cat([part.sum(dim=1) for part in now])
    told.drift = float((sums - chunks.log_prob[rows]).abs().max())
    if config.precision == "no" and told.drift > AGREES:
        raise UsageError(
            "E301",
            f"the policy gives a recorded chunk another log-probability than it did, by {told.drift:.3g} nats: the"
            " rollouts are of another policy, or of another temperature",
        )
    if config.ratio == "token":
        return stack(now)
    return (sums if anew else chunks.log_prob)[:, None]


def _clipped(model: TokenPolicy, part: Chunks, old: Tensor, config: RIPTConfig, told: Told) -> Tensor:
    """``(B,)``: the clipped loss less the entropy."""
    scores = _score(model, part, config)
    new, mask = scores.log_prob, part.mask.to(scores.log_prob.dtype)
    lengths = mask.sum(-1)
    if config.ratio == "chunk":
        new, mask = new.sum(dim=1, keepdim=True), torch.ones(len(part), 1)
    old = old[:, : new.shape[1]]
    policy = clipped(new, old, mask, part.advantage, clip=config.clip_coef, per=config.ratio, xp=torch)
    entropy = scores.entropy.sum(-1) / lengths
    with torch.no_grad():
        far = ((log_ratio(new, old, mask, per=config.ratio).exp() - 1).abs() > config.clip_coef).float()
        share = far.mean() if config.ratio == "chunk" else (far * mask).sum() / mask.sum()
        moved = divergence(new, old, mask, xp=torch).mean()
    told.add(policy_loss=policy.mean(), entropy=entropy.mean(), kl=moved, clip_share=share)
    out: Tensor = policy - config.ent_coef * entropy
    return out


def _score(model: TokenPolicy, part: Chunks, config: RIPTConfig) -> Scores:
    out: Scores = model(part.observations, part.tokens, part.mask, temperature=config.temperature)
    return out


def _guided(model: AskedFlow, part: Chunks, config: RIPTConfig, generator: torch.Generator, told: Told) -> Tensor:
    """``(B,)``: the guided loss."""
    loss = guided_losses(model, part.observations, part.advantage, alpha=config.cfg_alpha, generator=generator)
    told.add(guided_loss=loss.mean(), positive_share=(part.advantage > 0).float().mean())
    return loss
