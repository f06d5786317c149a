"""Generalised advantage estimation over chunks of any length: with ends, time limits and a buffer that is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_data import options as checks

Floats = NDArray[np.float64]

DISCOUNTS: Final = ("step", "chunk")
TIME_LIMITS: Final = ("cut", "end")


@dataclass(frozen=True, slots=True, eq=False)
class Advantages:
    """Of each chunk.

    Attributes:
        advantage: ``(T, E)``, not normalised.
        value_target: ``(T, E)``: advantage plus value, what the critic learns.
    """

    advantage: Floats
    value_target: Floats


def chunk_reward(rewards: ArrayLike, gamma: float, *, discount: str = "step") -> tuple[float, float]:
    """The reward of a chunk of ``(k,)`` step rewards, and the discount of what comes after it.

    Args:
        rewards: of the steps that were executed.
        gamma: discount.
        discount: ``step``: ``gamma`` is a step's, so the reward is ``sum gamma^j r_j`` and the discount
            ``gamma^k``, whatever the chunk's length (a semi-Markov process: R. S. Sutton et al., 1999, Artif.
            Intell. 112, 181-211). ``chunk``: it is a chunk's: the plain sum, and ``gamma``.
    """
    steps = np.asarray(rewards, dtype=np.float64)
    checks.one_of("discount", discount, DISCOUNTS)
    if discount == "chunk":
        return float(steps.sum()), gamma
    return float((gamma ** np.arange(len(steps)) * steps).sum()), float(gamma ** len(steps))


def chunk_advantages(
    *,
    reward: ArrayLike,
    value: ArrayLike,
    discount: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    final_value: ArrayLike,
    lam: float,
) -> Advantages:
    """Advantages of ``T`` chunks in a row, in each of ``E`` lanes.

    ``delta_t = R_t + g_t V' - V_t`` with ``V'`` 0 where the episode terminated, the value of its last observation
    where it was truncated or the buffer ends, and ``V_{t+1}`` elsewhere;
    ``A_t = delta_t + g_t lam A_{t+1}`` within an episode.

    Args:
        reward: ``(T,)`` or ``(T, E)``, of chunks.
        value: of the observation before each chunk.
        discount: of what comes after each chunk.
        terminated: whether the episode ended there, and nothing more is to be had.
        truncated: whether it was cut off there by a limit.
        final_value: of the observation after the chunk, needed where it was truncated and in the last row unless
            it terminated; elsewhere it is not read and may be NaN.
        lam: 0 to 1.

    Raises:
        ValueError: shapes differ, a chunk is both terminated and truncated, or a value that is needed is missing.
    """
    r, v, g, last = (np.asarray(each, dtype=np.float64) for each in (reward, value, discount, final_value))
    ends, cut = np.asarray(terminated, dtype=np.bool_), np.asarray(truncated, dtype=np.bool_)
    shapes = {each.shape for each in (r, v, g, last, ends, cut)}
    if len(shapes) != 1 or r.ndim not in (1, 2) or len(r) == 0:
        raise ValueError(f"chunks have shapes {', '.join(map(str, sorted(shapes)))}, not one of (T,) or (T, E)")
    if (ends & cut).any():
        raise ValueError("a chunk is both terminated and truncated; it can be one of them")
    wanted = cut.copy()
    wanted[-1] |= ~ends[-1]
    missing = wanted & ~np.isfinite(last)
    if missing.any():
        where = int(np.argwhere(missing)[0][0])
        what = "truncated" if np.atleast_1d(cut[where]).any() else "the last one"
        raise ValueError(f"chunk {where} is {what} and needs a bootstrap value of what comes after it")
    after = np.where(wanted, np.where(wanted, last, 0.0), np.concatenate([v[1:], v[-1:]]))
    delta = r + np.where(ends, 0.0, g * after) - v
    out, ahead = np.empty_like(r), np.zeros_like(r[0])
    for t in range(len(r) - 1, -1, -1):
        ahead = delta[t] + np.where(ends[t] | cut[t], 0.0, g[t] * lam * ahead)
        out[t] = ahead
    return Advantages(out, out + v)


def normalised(advantage: ArrayLike) -> Floats:
    """Less their mean, by their population deviation plus 1e-8."""
    values = np.asarray(advantage, dtype=np.float64)
    out: Floats = (values - values.mean()) / (values.std() + 1e-8)
    return out
