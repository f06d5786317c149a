"""A policy that draws chunks of actions by a rectified flow, with an indicator that it may be asked with.

From noise at time 0 to actions at time 1 along straight lines (X. Liu et al., 2022, https://arxiv.org/abs/2209.03003);
the indicator and its guidance are those of J. Ho and T. Salimans, 2022, https://arxiv.org/abs/2207.12598.
"""

from __future__ import annotations

import math
from typing import Any, Final

import torch
from torch import Tensor, nn

from training_adapters.policies.blocks import Block
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.encoder import Prefix
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.words import Vocabulary
from training_adapters.policy import Batch, Chunk

INDICATOR: Final = "is_positive"
"""``(B,)`` int64 of a batch: 1 asks for what was better than its group, 0 for nothing."""
DROPOUT: Final = 0.1
"""Share of samples whose indicator is left out in training, where the batch does not say it."""
STEPS: Final = 6
"""Of Euler's method, from noise to actions."""
_WAVES: Final = 8  # of a sine and a cosine each, that time is given as


class AskedFlow(nn.Module):
    """Of about 0.1 M parameters by default. See `training_adapters.policy`; it has no tokens.

    Args:
        config: its form.

    Attributes:
        longest: 1: a recording has one token, which is masked out.
        cfg_scale: of guidance when it acts: ``v(none) + cfg_scale (v(indicator) - v(none))``; 1 is the branch with
            the indicator itself, and 0 the one without.
    """

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config, self.cfg_scale, self.longest = config, 1.0, 1
        self.vocabulary = Vocabulary(config.words)
        width = config.width
        self.scaling = Scaling(config.state, config.dim, config.slots)
        self.prefix = Prefix(config, len(self.vocabulary))
        self.indicator = nn.Embedding(2, width)
        self.clock = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.GELU(), nn.Linear(width, width))
        self.action = nn.Linear(config.dim, width)
        self.position = nn.Parameter(0.02 * torch.randn(config.horizon, width))
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, config.dim)

    def forward(self, batch: Batch, noise: Tensor | None = None, time: Tensor | None = None) -> Any:
        """`loss`: what a wrapper for several devices calls."""
        return self.loss(batch, noise, time)

    def noise(self, batch: Batch, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``(B, H, D)`` normal noise, and times ``(B,)`` from 0 to 1, for `loss`."""
        rows = len(batch["task"])
        shape = (rows, self.config.horizon, self.config.dim)
        return torch.randn(shape, generator=generator), torch.rand(rows, generator=generator)

    def loss(self, batch: Batch, noise: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """``(B,)``: the mean squared error of the velocity, over elements that move and steps before the end.

        Args:
            batch: observations with ``action`` ``(B, H, D)``; ``action_is_pad`` ``(B, H)`` and the indicator may
                be in it.
            noise: see `noise`; None: drawn by PyTorch's own generator.
            time: likewise.
        """
        if noise is None or time is None:
            noise, time = self.noise(batch)
        wanted = self.scaling.scaled(batch["action"]).float()
        at = time[:, None, None]
        found = self.velocity(self._prefix(batch), (1 - at) * noise + at * wanted, time, self._asked(batch))
        counts = (self.scaling.action_scale > 0).expand(wanted.shape)
        if "action_is_pad" in batch:
            counts = counts & ~batch["action_is_pad"][..., None]
        error = (found - (wanted - noise)).square().masked_fill(~counts, 0.0).sum(dim=(1, 2))
        out: Tensor = error / counts.sum(dim=(1, 2)).clamp(min=1)
        return out

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`; the temperature scales the noise that a chunk begins as."""
        with torch.no_grad():
            prefix, rows = self._prefix(batch), len(batch["task"])
            x = temperature * self.noise(batch, generator)[0]
            for step in range(STEPS):
                x = x + self._guided(prefix, x, torch.full((rows,), step / STEPS)) / STEPS
            nothing = torch.zeros(rows, 1, dtype=torch.int64)
            return Chunk(
                self.scaling.actions(x.double()),
                nothing,
                nothing.bool(),
                nothing.float(),
                torch.zeros(rows, dtype=torch.bool),
            )

    def velocity(self, prefix: Tensor, x: Tensor, time: Tensor, asked: Tensor) -> Tensor:
        """``(B, H, D)``: where actions go from ``x`` at a time."""
        waves = time[:, None] * torch.arange(1, _WAVES + 1) * math.pi
        clock = self.clock(torch.cat([waves.sin(), waves.cos()], dim=1)) + self.indicator(asked)
        z = torch.cat([prefix, clock[:, None], self.action(x) + self.position], dim=1)
        for block in self.blocks:
            z, _ = block(z)
        out: Tensor = self.out(self.norm(z[:, -self.config.horizon :]))
        return out

    def _guided(self, prefix: Tensor, x: Tensor, time: Tensor) -> Tensor:
        ones = torch.ones(len(x), dtype=torch.int64)
        if self.cfg_scale == 1.0:
            return self.velocity(prefix, x, time, ones)
        free = self.velocity(prefix, x, time, 0 * ones)
        return free + self.cfg_scale * (self.velocity(prefix, x, time, ones) - free)

    def _prefix(self, batch: Batch) -> Tensor:
        out: Tensor = self.prefix(
            self.scaling.state(batch["observation.state"]), self.vocabulary.encode(batch["task"])
        )
        return out

    def _asked(self, batch: Batch) -> Tensor:
        if INDICATOR in batch:
            out: Tensor = batch[INDICATOR]
            return out
        return (torch.rand(len(batch["task"])) >= DROPOUT).long()
