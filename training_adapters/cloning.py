"""A policy from demonstrations: tokens and scales are fitted on them, then it learns their chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import torch

from training_adapters.demonstrations import Demonstrations, Draws, demonstrate
from training_adapters.envs.table import Place
from training_adapters.fast import FastTokenizer
from training_adapters.loop import Group, Optimisation, accelerator, cosine
from training_adapters.policies.asked import AskedFlow
from training_adapters.policies.config import PolicyConfig
from training_adapters.policies.scaling import Scaling
from training_adapters.policies.tokens import TokenPolicy
from training_adapters.policies.words import Vocabulary

Made = TypeVar("Made", TokenPolicy, AskedFlow)

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
    config, scaling = _form(data, slots)
    tokenizer = FastTokenizer.fit(
        scaling.scaled(torch.from_numpy(data.action)), scale=scale, vocab_size=vocab_size
    )
    policy = TokenPolicy(config, tokenizer)
    policy.scaling.load_state_dict(scaling.state_dict())
    return policy


def new_flow_policy(data: Demonstrations, *, slots: tuple[int, ...]) -> AskedFlow:
    """The same for a policy without tokens."""
    config, scaling = _form(data, slots)
    policy = AskedFlow(config)
    policy.scaling.load_state_dict(scaling.state_dict())
    return policy


def _form(data: Demonstrations, slots: tuple[int, ...]) -> tuple[PolicyConfig, Scaling]:
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
    return config, scaling


def first_policy(
    place: Place,
    make: Callable[..., Made],
    *,
    episodes: int,
    updates: int | None,
    seed: int,
    say: Callable[[str], None],
    horizon: int | None = None,
) -> Made:
    """A policy for an environment that has none yet: cloned from its expert, or random where that is said.

    Args:
        place: the environment.
        make: `new_policy` or `new_flow_policy`.
        episodes: of the expert, which scales and tokens are fitted on too.
        updates: of the optimiser, to clone them; None: parameters stay random.
        seed: of the episodes and draws.
        say: is told in a line what the policy is.
        horizon: steps of a chunk; None: the environment's.

    Raises:
        UsageError: E231, the environment has no expert.
    """
    row = place.row
    data = demonstrate(episodes, seed=seed, horizon=horizon or row.horizon, place=place)
    policy = make(data, slots=row.slots)
    if updates is None:
        say("start: random parameters, as asked for; scales and tokens are fitted on demonstrations")
    else:
        clone(policy, data, updates=updates, seed=seed)
        say(f"start: cloned from {episodes} episodes of the scripted expert ({len(data)} frames)")
    return policy


def clone(
    policy: TokenPolicy | AskedFlow,
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
