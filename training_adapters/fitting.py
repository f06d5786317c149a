"""Training a model by a loss of its own, gone on with from the last checkpoint after any end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training_adapters import checkpoints
from training_adapters.loop import Group, Optimisation, accelerator, cosine
from training_adapters.policies.bins import BinPolicy
from training_adapters.policies.critic import BinCritic
from training_adapters.policies.flow import FlowPolicy
from vla_data.errors import DataError

Model = BinPolicy | BinCritic | FlowPolicy
Batches = Callable[[int], dict[str, Any]]
"""The batch of an update, by its number alone: going on needs no other state."""


def fit(
    model: Model,
    batches: Batches,
    *,
    folder: Path,
    updates: int,
    learning_rate: float,
    save_every: int,
    facts: Mapping[str, Any],
    log: Callable[[int, float], None],
    log_every: int = 0,
) -> Path:
    """Train for ``updates`` in all, and save; the checkpoint.

    Args:
        model: as it begins; where ``folder`` has checkpoints, it gets the last one's parameters.
        batches: with ``weight`` ``(B,)`` where samples count differently.
        folder: of the checkpoints.
        updates: of the optimiser.
        learning_rate: at its highest; it follows `training_adapters.loop.cosine`.
        save_every: updates between checkpoints; 0: at the end alone.
        facts: for their metadata.
        log: told the number of updates and the mean loss since it was told last.
        log_every: updates between; 0: when a checkpoint is saved.

    Raises:
        DataError: E201, the loss is no number.
    """
    done = checkpoints.numbered(folder)
    saved = checkpoints.load(done[-1]) if done else None
    if saved is not None:
        checkpoints.fill(model, saved.params, what=str(saved.folder))
    optimisation = Optimisation(
        model,
        [Group(module=model, learning_rate=learning_rate, clip=1.0)],
        accelerator=accelerator(),
        schedule=cosine,
        weight_decay=1e-4,
    )
    if saved is not None:
        optimisation.load(saved.train_state()[0])
    losses: list[float] = []
    while optimisation.updates < updates:
        number = optimisation.updates
        loss = optimisation.step(
            lambda batch: weighed(optimisation.model(batch), batch), [batches(number)], share=number / updates
        )
        if not np.isfinite(loss):
            raise DataError("E201", f"the loss of update {number} is {loss}")
        losses.append(loss)
        now = optimisation.updates
        saves = now == updates or (save_every and now % save_every == 0)
        if (saves and not log_every) or (log_every and (now == updates or now % log_every == 0)):
            log(now, float(np.mean(losses)))
            losses = []
        if saves:
            _save(folder, model, optimisation, facts)
    return folder / f"step_{updates}"


def weighed(loss: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """``(B,)`` losses times ``weight``, where a batch has it."""
    return loss * batch["weight"] if "weight" in batch else loss


def seeded(*numbers: int) -> None:
    """Parameters that are drawn from here on follow from these numbers alone."""
    torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1))


def _save(folder: Path, model: Model, optimisation: Optimisation, facts: Mapping[str, Any]) -> None:
    step = folder / f"step_{optimisation.updates}"
    before = checkpoints.numbered(folder)
    checkpoints.save(step, model, {**facts, "update_step": optimisation.updates}, tensors=optimisation.state())
    checkpoints.forget(path for path in before if path != step)
