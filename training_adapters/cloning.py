"""A policy from demonstrations: tokens and scales are fitted on them, then it learns to say these."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch

from training_adapters.demonstrations import Demonstrations, Draws
from training_adapters.fast import FastTokenizer
from training_adapters.loop import Group, Optimisation, accelerator, cosine
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policies.words import Vocabulary

SCALE, VOCABULARY = 6.0, 160
"""Of the FAST tokens of small policies: coarser than FAST's 10 and 1,024, for chunks of about 11 tokens."""


def new_policy(
    data: Demonstrations, *, slots: tuple[int, ...], scale: float = SCALE, vocab_size: int = VOCABULARY
) -> TokenPolicy:
    """A policy with random parameters that knows the words, scales and tokens of its data.

    Args:
        data: what it will learn.
        slots: see `PolicyConfig`.
        scale: of the FAST tokens.
        vocab_size: of the FAST tokens.
    """
    _, horizon, dim = data.action.shape
    config = PolicyConfig(
        state=data.state.shape[1],
        horizon=horizon,
        dim=dim,
        words=Vocabulary.of(data.task).words,
        slots=slots,
    )
    scaling = Scaling(config.state, dim, slots)
    scaling.fit(data.state, data.action.reshape(-1, dim))
    tokenizer = FastTokenizer.fit(
        scaling.scaled(torch.from_numpy(data.action)), scale=scale, vocab_size=vocab_size
    )
    policy = TokenPolicy(config, tokenizer)
    policy.scaling.load_state_dict(scaling.state_dict())
    return policy


def clone(
    policy: TokenPolicy,
    data: Demonstrations,
    *,
    updates: int,
    seed: int,
    batch_size: int = 64,
    learning_rate: float = 2e-3,
    after: Callable[[int, float], None] | None = None,
) -> None:
    """Train a policy on demonstrations for so many updates.

    Args:
        policy: what learns.
        data: from what.
        updates: of the optimiser.
        seed: of the draws.
        batch_size: frames of an update.
        learning_rate: at its highest; it follows `training_adapters.loop.cosine`.
        after: called with the number of updates and the loss.
    """
    optimisation = Optimisation(
        policy,
        [Group(module=policy, learning_rate=learning_rate, clip=1.0)],
        accelerator=accelerator(),
        schedule=cosine,
        weight_decay=1e-4,
    )
    batches: Iterator[dict[str, object]] = iter(Draws(data, batch_size=batch_size, seed=seed))
    for number, batch in enumerate(itertools.islice(batches, updates)):
        loss = optimisation.step(optimisation.model, [batch], share=number / updates)
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss of update {number} is {loss}")
        if after is not None:
            after(number + 1, loss)
