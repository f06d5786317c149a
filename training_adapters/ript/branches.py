"""The two branches of the guided loss: the same batch with and without its indicator, and nothing shared."""

from __future__ import annotations

import copy
from typing import Any, Protocol

import torch
from torch import Tensor

from training_adapters.policies.asked import INDICATOR
from training_adapters.policy import Batch
from vla_data.advantages import losses
from vla_data.errors import UsageError


class Guided(Protocol):
    """A policy whose loss needs noise, and reads the indicator of a batch."""

    def noise(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise and time of each sample, that `loss` takes."""
        ...

    def loss(self, batch: Batch, noise: Tensor | None = None, time: Tensor | None = None) -> Tensor:
        """``(B,)`` losses of samples."""
        ...


def branches(batch: Batch) -> tuple[dict[str, Any], dict[str, Any]]:
    """The batch with the indicator, and the same without: deep copies, so that no model can mix them up."""
    out = []
    for value in (1, 0):
        branch = copy.deepcopy(dict(batch))
        branch[INDICATOR] = torch.full((len(batch["task"]),), value, dtype=torch.int64)
        out.append(branch)
    return out[0], out[1]


def check_branches(positive: Batch, free: Batch) -> None:
    """That two branches share no memory, and differ in the indicator alone.

    Raises:
        ValueError: they do not.
    """
    if positive.keys() != free.keys():
        raise ValueError(f"the branches have other names: {', '.join(sorted(positive.keys() ^ free.keys()))}")
    for name, value in positive.items():
        other = free[name]
        if isinstance(value, Tensor):
            if value.numel() and value.untyped_storage().data_ptr() == other.untyped_storage().data_ptr():
                raise ValueError(f"the branches share the memory of {name}")
            same = value.shape == other.shape and torch.equal(value, other)
        else:
            if value is other and isinstance(value, list | dict):
                raise ValueError(f"the branches share {name}")
            same = value == other
        if same != (name != INDICATOR):
            raise ValueError(f"the branches {'differ' if name != INDICATOR else 'do not differ'} in {name}")


def guided_losses(
    model: Guided, batch: Batch, advantages: Tensor, *, alpha: float, generator: torch.Generator
) -> Tensor:
    """``(B,)``: ``1[A > 0] L(indicator) + alpha L(none)``, both with the same noise and time.

    Args:
        model: what learns.
        batch: of chunks.
        advantages: ``(B,)``.
        alpha: weight of the branch without the indicator.
        generator: of noise and time.
    """
    positive, free = branches(batch)
    noise, time = model.noise(batch, generator)
    out: Tensor = losses.cfg_losses(
        model.loss(positive, noise, time), model.loss(free, noise, time), advantages, alpha=alpha
    )
    return out


def check_guided(model: Guided, batch: Batch) -> None:
    """That a policy reads the indicator, and nothing but it tells its branches apart.

    Raises:
        UsageError: E232, the policy's loss is the same with and without it, or another with the same.
    """
    positive, free = branches(batch)
    check_branches(positive, free)
    with torch.no_grad():
        noise, time = model.noise(batch, torch.Generator().manual_seed(0))
        first, again, other = (
            model.loss(branch, noise.clone(), time.clone()) for branch in (positive, positive, free)
        )
    if not torch.equal(first, again):
        raise UsageError("E232", "the policy's loss is not the same twice, with the same noise: it draws its own")
    if torch.equal(first, other):
        raise UsageError("E232", "the policy's loss does not read the indicator: its two branches are one")
