"""What an observation is worth, and an actor with such a critic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.encoder import Gate
from training_adapters.policies.pixels import PixelPolicy
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policy import Batch, Chunk, Scores, cameras_of

_TEXT = 32  # width of the prompt's vector


class ValueHead(nn.Module):
    """The value of an observation, by a perceptron of its own: its gradient does not reach the actor.

    Args:
        config: the policy's form.
        words: numbers of the vocabulary.
        hidden: width.
    """

    def __init__(self, config: PolicyConfig, words: int, hidden: int = 128) -> None:
        super().__init__()
        self.gate = Gate(config, words, _TEXT)
        self.layers = nn.Sequential(
            nn.Linear(config.state + self.gate.width, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, state: Tensor, words: Tensor) -> Tensor:
        """``(B,)`` of scaled states and numbered words."""
        out: Tensor = self.layers(torch.cat([state, *self.gate(state, words)], dim=1))[:, 0]
        return out


class ActorCritic(nn.Module):
    """A policy and a value head, under the names that Pi0-FAST's actor-critic checkpoints have.

    Args:
        actor: the policy. The value head reads the whole state also where the actor sees cameras and the robot's
            own numbers alone: a critic is there in training only (L. Pinto et al., 2017,
            https://arxiv.org/abs/1710.06542).
    """

    def __init__(self, actor: TokenPolicy | PixelPolicy) -> None:
        super().__init__()
        self.actor_backbone: TokenPolicy | PixelPolicy = actor
        self.value_head = ValueHead(actor.config, len(actor.vocabulary))

    @property
    def cameras(self) -> tuple[str, ...]:
        """See `training_adapters.policy.cameras_of`."""
        return cameras_of(self.actor_backbone)

    def forward(
        self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0
    ) -> tuple[Scores, Tensor]:
        """Scores of the tokens, and the observations' values ``(B,)``."""
        return self.score(batch, tokens, mask, temperature=temperature), self.value(batch)

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        return self.actor_backbone.act(batch, generator, temperature=temperature)

    def score(self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Scores:
        """See `training_adapters.policy.Policy`."""
        return self.actor_backbone.score(batch, tokens, mask, temperature=temperature)

    def loss(self, batch: Batch) -> Tensor:
        """See `training_adapters.policy.Policy`."""
        return self.actor_backbone.loss(batch)

    def value(self, batch: Batch) -> Tensor:
        """See `training_adapters.policy.Critic`."""
        state = self.actor_backbone.scaling.state(batch["observation.state"])
        out: Tensor = self.value_head(state, self.actor_backbone.vocabulary.encode(batch["task"]))
        return out
