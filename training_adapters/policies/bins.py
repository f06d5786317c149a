"""A policy that chooses each low frequency of a chunk from bins: cheap enough for thousands of episodes on a CPU.

See `training_adapters.policies.binned`; here a perceptron reads the state and, through a gate, the prompt.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training_adapters.policies.binned import TEXT, BinConfig, Binned, distributions, fitted, perceptron
from training_adapters.policies.encoder import Gate
from training_adapters.policy import Batch


class BinPolicy(Binned):
    """See the module.

    Args:
        config: its form.
    """

    def __init__(self, config: BinConfig) -> None:
        super().__init__(config)
        self.gate = Gate(config, len(self.vocabulary), TEXT)
        self.layers = perceptron(config.state + self.gate.width, config)

    def log_probs(self, batch: Batch) -> Tensor:
        """See `Binned`."""
        state = self.scaling.state(batch["observation.state"])
        told = self.gate(state, self.vocabulary.encode(batch["task"]))
        return distributions(self.layers(torch.cat([state, *told], dim=1)), self.config)


def new_bin_policy(states: Any, actions: Any, words: tuple[str, ...], *, slots: tuple[int, ...]) -> BinPolicy:
    """A policy with random parameters that knows the scales of its data.

    Args:
        states: ``(N, S)``.
        actions: ``(N, H, D)`` in the environment's units.
        words: that prompts may have.
        slots: see `PolicyConfig`.
    """
    form, scaling = fitted(states, actions, words, slots)
    policy = BinPolicy(BinConfig(**form))
    policy.scaling.load_state_dict(scaling.state_dict())
    return policy
