"""A critic whose values are distributions over bins of [-1, 0], as RECAP's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.encoder import Gate
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.words import Vocabulary
from training_adapters.policy import Batch
from vla_data import options as checks
from vla_data.advantages import ValueBins

_TEXT = 32  # width of the prompt's vector


@dataclass(frozen=True, kw_only=True)
class CriticConfig(PolicyConfig):
    """The form of a `BinCritic`; ``horizon`` and ``dim`` are its policy's and say nothing here.

    Attributes:
        bins: of the value.
        limit: steps that an episode may have; a frame's number is divided by it.
        width: of the perceptron.
    """

    limit: int
    bins: int = 201
    width: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("limit", self.limit, low=1)
        checks.whole("bins", self.bins, low=2, high=1 << 16)


class BinCritic(nn.Module):
    """The value of an observation, given its prompt and how many steps were taken.

    The time is an input because an episode ends at its limit: without it a frame far from its goal is worth the
    same early and late.

    Args:
        config: its form.
    """

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = Vocabulary(config.words)
        self.scaling = Scaling(config.state, config.dim, config.slots)
        self.gate = Gate(config, len(self.vocabulary), _TEXT)
        self.layers = nn.Sequential(
            nn.Linear(config.state + self.gate.width + 1, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.bins),
        )
        centres = torch.from_numpy(ValueBins(count=config.bins).centres)
        self.register_buffer("_centres", centres, persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """`loss`: what a wrapper for several devices calls."""
        return self.loss(batch)

    def logits(self, batch: Batch) -> Tensor:
        """``(B, bins)``; a batch has ``frame_index`` ``(B,)`` too."""
        state = self.scaling.state(batch["observation.state"])
        told = self.gate(state, self.vocabulary.encode(batch["task"]))
        time = batch["frame_index"][:, None] / self.config.limit
        out: Tensor = self.layers(torch.cat([state, *told, time.to(state.dtype)], dim=1))
        return out

    def loss(self, batch: Batch) -> Tensor:
        """``(B,)``: cross-entropy to ``bin`` ``(B,)``, those of the returns."""
        return functional.cross_entropy(self.logits(batch), batch["bin"], reduction="none")

    def value(self, batch: Batch) -> Tensor:
        """``(B,)`` float64 in [-1, 0]: the mean of the distribution."""
        return self.logits(batch).softmax(dim=-1).to(torch.float64) @ self._centres
