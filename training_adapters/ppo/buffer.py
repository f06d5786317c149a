"""Chunks of an update as tensors, and each epoch's partition of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """``N`` chunks that one policy sampled.

    Attributes:
        observations: a batch of N, by the names of `training_adapters.policy`.
        tokens: ``(N, L)``.
        mask: ``(N, L)``.
        log_prob: ``(N, L)``, when they were sampled.
        advantage: ``(N,)`` float32, normalised.
        value_target: ``(N,)`` float32.
    """

    observations: dict[str, Any]
    tokens: Tensor
    mask: Tensor
    log_prob: Tensor
    advantage: Tensor
    value_target: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def pick(self, rows: Tensor) -> Rollout:
        """Some of the chunks; tokens are cut to the longest of them."""
        longest = int(self.mask[rows].sum(dim=1).max())
        seen = {
            name: [value[row] for row in rows.tolist()] if isinstance(value, list) else value[rows]
            for name, value in self.observations.items()
        }
        return Rollout(
            seen,
            self.tokens[rows, :longest],
            self.mask[rows, :longest],
            self.log_prob[rows, :longest],
            self.advantage[rows],
            self.value_target[rows],
        )


def partition(count: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Rows 0 to ``count`` in random order, in batches of ``size``, each exactly once; the last may be short."""
    yield from torch.randperm(count, generator=generator).split(size)


def stack(parts: Sequence[Tensor]) -> Tensor:
    """``(rows, columns)`` of several with unlike columns, filled up with zeros."""
    if len({part.shape[1] for part in parts}) == 1:
        return torch.cat(list(parts))
    return pad_sequence([row for part in parts for row in part], batch_first=True)
