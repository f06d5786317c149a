"""What a policy must do to be trained here: a few methods, so that a trainer's own class needs a thin wrapper.

Observations go by LeRobot's names, as batches of `vla_data.mixtures` do:

- ``observation.state``: ``(B, S)`` float32
- ``observation.images.<camera>``: ``(B, height, width, 3)`` uint8
- ``task``: ``B`` texts

and batches of demonstrations also have ``action`` ``(B, H, D)`` and ``action_is_pad`` ``(B, H)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Batch = Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """What a policy does next, for ``B`` observations.

    Attributes:
        actions: ``(B, H, D)`` float64 in the environment's units; NaN where the tokens were malformed.
        tokens: ``(B, L)`` int64, as sampled: decoding and encoding again need not give them back.
        mask: ``(B, L)`` bool, which of them are the chunk's.
        log_prob: ``(B, L)`` float32, under the distribution they were drawn from; 0 where the mask is False.
        malformed: ``(B,)`` bool.
    """

    actions: Tensor
    tokens: Tensor
    mask: Tensor
    log_prob: Tensor
    malformed: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """What a policy thinks of tokens that were sampled before (teacher-forced).

    Attributes:
        log_prob: ``(B, L)``; 0 where the mask is False.
        entropy: ``(B, L)`` of the distribution at each token, in nats; likewise.
    """

    log_prob: Tensor
    entropy: Tensor


class Actor(Protocol):
    """What plays."""

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """Sample a chunk for each observation; temperature 0 takes the likeliest token each time."""
        ...


def cameras_of(policy: Actor) -> tuple[str, ...]:
    """The cameras that a policy looks through, by its attribute ``cameras``; none without one."""
    return tuple(getattr(policy, "cameras", ()))


class Policy(Actor, Protocol):
    """A policy over chunks of tokens."""

    def score(self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Scores:
        """Log-probabilities of stored tokens, under the same mask of allowed tokens as `act`'s."""
        ...

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: what supervised training minimises."""
        ...


class Critic(Protocol):
    """What an observation is worth."""

    def value(self, batch: Batch) -> Tensor:
        """``(B,)``: the discounted reward that is expected from here on."""
        ...
