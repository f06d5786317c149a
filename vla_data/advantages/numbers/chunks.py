"""Chunk-level GAE: one decision is a chunk of several executed steps, possibly fewer than planned.

Two conventions, to be named: ``semi_mdp`` discounts by the steps that really passed, ``R = sum gamma^j r_j`` and
``g = gamma^k``; ``per_chunk`` sums the rewards and discounts once a chunk, as published chunk-PPO code does.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from vla_data import options as checks
from vla_data.advantages.numbers.flat import Episodes, Floats
from vla_data.advantages.numbers.returns import gae

CONVENTIONS: Final = ("per_chunk", "semi_mdp")
Convention = Literal["per_chunk", "semi_mdp"]


def chunk_rewards(
    rewards: Any, chunks: Episodes, *, gamma: float, convention: Convention
) -> tuple[Floats, Floats]:
    """(R, g), both (C,): the reward of each chunk and its discount, from step rewards (N,).

    Args:
        rewards: of every executed step, chunk after chunk.
        chunks: how many steps of each chunk were executed.
        gamma: per step for ``semi_mdp``, per chunk for ``per_chunk``.
        convention: see the module.
    """
    gamma = checks.number("gamma", gamma, low=0, high=1)
    checks.one_of("convention", convention, CONVENTIONS)
    reward = chunks.column("rewards", rewards)
    if convention == "per_chunk":
        return np.add.reduceat(reward, chunks.starts), np.full(len(chunks), gamma)
    weighted = reward * gamma ** chunks.frame_index().astype(np.float64)
    return np.add.reduceat(weighted, chunks.starts), gamma ** chunks.lengths.astype(np.float64)


def chunk_gae(
    rewards: Any,
    values: Any,
    episodes: Episodes,
    *,
    lam: float,
    discounts: Any,
    terminated: Any,
    truncated: Any = None,
    bootstrap: Any = None,
) -> tuple[Floats, Floats]:
    """Advantages and returns of chunks, both (C,).

    ``rewards`` and ``discounts`` are those of `chunk_rewards`, ``values`` is V at the start of each chunk, and
    ``episodes`` counts chunks. A buffer that is cut in the middle of an episode is truncated at its last chunk,
    with the value of the observation that came next as its ``bootstrap``; without one it is refused.
    """
    return gae(
        rewards,
        values,
        episodes,
        lam=lam,
        gamma=discounts,
        terminated=terminated,
        truncated=truncated,
        bootstrap=bootstrap,
    )
