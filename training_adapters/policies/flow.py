"""A policy that makes chunks in RDT's 128 slots by a flow: a small stand-in for RDT, with its inputs.

A chunk ``u`` in physical units, scaled to [-1, 1] by the bounds of its data, and noise ``e`` are joined by
``x_t = (1 - t) e + t u``; the network learns ``u - e`` and is followed from noise in a few Euler steps (rectified
flow: X. Liu et al., 2022, https://arxiv.org/abs/2209.03003). Slots that no action fills are 0 and are not learnt.
RDT itself denoises, and its loss is of all slots.

Besides the names of `training_adapters.policy`, a batch has ``state_mask`` ``(B, 128)``, ``ctrl_freq`` ``(B,)`` in
Hz, 0 where it is hidden, and ``images`` ``(B, history x 3, 3, side, side)`` uint8 of policies that see.
``observation.state`` ``(B, 128 + more)`` is RDT's state and, in an environment whose objects have no slot, what it
observes besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from training_adapters.policies.blocks import Block
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.encoder import Gate
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.words import Vocabulary
from training_adapters.policy import Batch, Chunk
from vla_data import options as checks

SLOTS: Final = 128
_WAVES: Final = 8  # sines and cosines of the time


@dataclass(frozen=True, kw_only=True)
class FlowConfig(PolicyConfig):
    """The form of a `FlowPolicy`; ``state`` is 128 and what is observed besides, ``dim`` is 128.

    Attributes:
        moves: slots that actions fill.
        images: of an observation, history times cameras; 0: it sees none.
        side: of them, in pixels.
        euler: steps from noise to a chunk.
    """

    moves: tuple[int, ...]
    images: int = 0
    side: int = 32
    euler: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "moves", tuple(self.moves))
        if self.state < SLOTS or self.dim != SLOTS:
            raise ValueError(f"states have {self.state} and actions {self.dim} numbers, not RDT's {SLOTS}")
        if not self.moves or not all(0 <= slot < SLOTS for slot in self.moves):
            raise ValueError(f"moves {self.moves} are not slots of 0 to {SLOTS - 1}")
        checks.whole("images", self.images, low=0, high=64)
        checks.whole("side", self.side, low=8, high=1024)
        checks.whole("euler", self.euler, low=1, high=1000)


class FlowPolicy(nn.Module):
    """See the module; of about 0.1 M parameters by default.

    Args:
        config: its form.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.longest = 1
        self.vocabulary = Vocabulary(config.words)
        self.scaling = Scaling(config.state, SLOTS, config.slots)
        self.gate = Gate(config, len(self.vocabulary), width)
        numbers = config.slots[2] if config.slots else 0
        self.robot = nn.Linear(config.state + SLOTS + 1 + numbers, width)
        self.thing = nn.Sequential(nn.Linear(max(numbers, 1), width), nn.GELU(), nn.Linear(width, width))
        self.time = nn.Sequential(nn.Linear(2 * _WAVES, width), nn.GELU(), nn.Linear(width, width))
        self.sees = (
            nn.Sequential(
                nn.Conv2d(3, 16, 5, stride=2, padding=2),
                nn.ReLU(),
                nn.Conv2d(16, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.AdaptiveAvgPool2d(4),
                nn.Flatten(),
                nn.Linear(32 * 16, width),
            )
            if config.images
            else None
        )
        before = 3 + (config.slots[1] if config.slots else 0) + config.images
        self.place = nn.Parameter(0.02 * torch.randn(before + config.horizon, width))
        self.enter = nn.Linear(len(config.moves), width)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, len(config.moves))
        self.register_buffer("_moves", torch.tensor(config.moves), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """`loss`: what a wrapper for several devices calls."""
        return self.loss(batch)

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: mean squared error of the flow over chunk and filled slots.

        A batch has ``action`` ``(B, H, 128)`` and the draws ``noise`` ``(B, H, moves)`` and ``time`` ``(B,)``.

        Raises:
            DataError: E202, a slot moves that never did when the scales were fitted.
        """
        wanted = self.scaling.scaled(batch["action"])[..., self._moves].float()
        noise, time = batch["noise"], batch["time"]
        at = (1 - time)[:, None, None] * noise + time[:, None, None] * wanted
        flow = self.flow(self.prefix(batch), at, time)
        return ((flow - (wanted - noise)) ** 2).mean(dim=(1, 2))

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """``actions`` ``(B, H, 128)`` in physical units; noise is times ``temperature``. There are no tokens."""
        with torch.no_grad():
            prefix = self.prefix(batch)
            x = temperature * torch.randn(
                len(prefix), self.config.horizon, len(self.config.moves), generator=generator
            )
            for step in range(self.config.euler):
                time = torch.full((len(x),), step / self.config.euler)
                x = x + self.flow(prefix, x, time) / self.config.euler
        whole = torch.zeros(*x.shape[:2], SLOTS, dtype=torch.float64)
        whole[..., self._moves] = x.to(torch.float64)
        none = torch.zeros(len(x), 1, dtype=torch.int64)
        return Chunk(
            self.scaling.actions(whole),
            none,
            none.to(torch.bool),
            torch.zeros(len(x), 1),
            torch.zeros(len(x), dtype=torch.bool),
        )

    def flow(self, prefix: Tensor, x: Tensor, time: Tensor) -> Tensor:
        """``(B, H, moves)``: where a noisy chunk goes at a time from 0 to 1."""
        waves = time[:, None] * torch.arange(1, _WAVES + 1) * math.pi
        when = self.time(torch.cat([waves.sin(), waves.cos()], dim=1))[:, None]
        z = torch.cat([prefix, when, self.enter(x)], dim=1) + self.place
        for block in self.blocks:
            z, _ = block(z)
        out: Tensor = self.out(self.norm(z[:, -self.config.horizon :]))
        return out

    def prefix(self, batch: Batch) -> Tensor:
        """``(B, P, width)``: the prompt; state, its mask and the rate; objects; images."""
        state = self.scaling.state(batch["observation.state"])
        text, named = self.gate(state, self.vocabulary.encode(batch["task"]))
        mask = batch["state_mask"].to(state.dtype)
        state = torch.cat([state[:, :SLOTS] * mask, state[:, SLOTS:]], dim=1)
        rate = batch["ctrl_freq"].to(state.dtype)[:, None] / 20.0
        parts = [text[:, None], self.robot(torch.cat([state, mask, rate, named], dim=1))[:, None]]
        if self.config.slots:
            parts.append(self.thing(self.gate.objects(state)))
        if self.sees is not None:
            images = batch["images"]
            seen = self.sees(images.flatten(0, 1).to(state.dtype) / 127.5 - 1)
            parts.append(seen.unflatten(0, images.shape[:2]))
        return torch.cat(parts, dim=1)
