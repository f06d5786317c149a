"""From observations to a few vectors: the prompt, the robot, and the objects."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training_adapters.policies.config import PolicyConfig

_SHARP = 3.0  # the gate's logits begin larger, so that it decides early in training


class Gate(nn.Module):
    """Which object a prompt names: a softmax from the sum of its words' vectors to the slots of the state.

    Args:
        config: the policy's form.
        words: numbers of the vocabulary, with 0 for no word.
        width: of a word's vector.
    """

    def __init__(self, config: PolicyConfig, words: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.width = width + (config.slots[2] if config.slots else 0)
        self._slots = config.slots
        self.choose = nn.Linear(width, config.slots[1]) if config.slots else None

    def objects(self, state: Tensor) -> Tensor:
        """``(B, objects, numbers)`` of a state."""
        first, objects, numbers = self._slots
        return state[:, first : first + objects * numbers].reshape(len(state), objects, numbers)

    def forward(self, state: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """The prompt ``(B, width)``, and what it names ``(B, numbers)``, which has no numbers without slots."""
        text = (self.words(words) * (words > 0)[..., None]).sum(dim=1)
        if self.choose is None:
            return text, state[:, :0]
        weight = (_SHARP * self.choose(text)).softmax(dim=-1)
        return text, (weight[..., None] * self.objects(state)).sum(dim=1)


class Prefix(nn.Module):
    """What a chunk is conditioned on, as ``(B, P, width)`` vectors: prompt, robot, and each object.

    Args:
        config: the policy's form.
        words: numbers of the vocabulary.
    """

    def __init__(self, config: PolicyConfig, words: int) -> None:
        super().__init__()
        self.gate = Gate(config, words, config.width)
        objects, numbers = (config.slots[1], config.slots[2]) if config.slots else (0, 0)
        self.length = 2 + objects
        self._first = config.slots[0] if config.slots else config.state
        self._after = self._first + objects * numbers
        own = config.state - objects * numbers
        self.robot = nn.Linear(own + numbers, config.width)
        self.thing = (
            nn.Sequential(nn.Linear(numbers, config.width), nn.GELU(), nn.Linear(config.width, config.width))
            if objects
            else None
        )
        self.place = nn.Parameter(0.02 * torch.randn(self.length, config.width))

    def forward(self, state: Tensor, words: Tensor) -> Tensor:
        """``(B, P, width)`` of scaled states and numbered words."""
        text, named = self.gate(state, words)
        robot = self.robot(torch.cat([state[:, : self._first], state[:, self._after :], named], dim=1))
        parts = [text[:, None], robot[:, None]]
        if self.thing is not None:
            parts.append(self.thing(self.gate.objects(state)))
        return torch.cat(parts, dim=1) + self.place
