"""A policy that is asked for good actions: by words in its prompt, and by guidance from what it does unasked."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training_adapters.policies.binned import scores
from training_adapters.policies.bins import BinPolicy
from training_adapters.policy import Batch, Chunk, Scores


class Guided:
    """Plays ``log_softmax(u + beta (c - u))`` for each token: ``c`` with the words, ``u`` without.

    That is classifier-free guidance (J. Ho and T. Salimans, 2022, https://arxiv.org/abs/2207.12598) on
    log-probabilities, as RECAP's ``v_unc + beta (v_pos - v_unc)`` is on the velocities of a flow.

    Args:
        policy: what is asked.
        words: that are added to each task, after a space or a line.
        beta: 1: the words alone; more: further away from what is done without them.
    """

    def __init__(self, policy: BinPolicy, words: str, *, beta: float = 1.0) -> None:
        self._policy, self._words, self._beta = policy, words, beta
        self.config, self.longest = policy.config, policy.longest

    def log_probs(self, batch: Batch) -> Tensor:
        """``(B, L, count)``."""
        asked = self._policy.log_probs(self._asked(batch))
        if self._beta == 1.0:
            return asked
        unasked = self._policy.log_probs(batch)
        return functional.log_softmax(unasked + self._beta * (asked - unasked), dim=-1)

    def act(self, batch: Batch, generator: torch.Generator, *, temperature: float = 1.0) -> Chunk:
        """See `training_adapters.policy.Policy`."""
        with torch.no_grad():
            return self._policy.draw(self.log_probs(batch), generator, temperature)

    def score(self, batch: Batch, tokens: Tensor, mask: Tensor, *, temperature: float = 1.0) -> Scores:
        """See `training_adapters.policy.Policy`."""
        return scores(self.log_probs(batch), tokens, mask, temperature)

    def loss(self, batch: Batch) -> Tensor:
        """Of the policy, with the words."""
        return self._policy.loss(self._asked(batch))

    def _asked(self, batch: Batch) -> Batch:
        return {**batch, "task": [task + self._words for task in batch["task"]]}
