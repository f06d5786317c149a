"""Returns and advantages of arbitrary rewards: Monte-Carlo, n-step and GAE.

The words, per frame ``t`` of an episode with frames ``0 .. T-1``:

- ``rewards[t]``: of action ``t``. ``values[t]``: V of what was seen before action ``t``.
- ``terminated[t]``: the task ended with action ``t``; nothing comes after it, its worth is 0.
- ``truncated[t]``: the recording was cut after action ``t`` by a limit; the world went on. What comes after is
  worth ``bootstrap[t]``, the value of the final observation, which must be given: a cut is never taken for an end.
- The last frame of an episode is one or the other. Where neither flag is set there it ``terminated`` if flags were
  not given at all, and is refused otherwise. Both at once: it terminated (the limit came too late to matter).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_data import options as checks
from vla_data.advantages.numbers.flat import Bools, Episodes, Floats, Ints
from vla_data.advantages.numbers.scan import reverse_scan


@dataclass(frozen=True)
class Ends:
    """How each frame is followed.

    Attributes:
        goes_on: (N,) bool: the next row is the next frame of the same stretch.
        beyond: (N,) float64: V of what comes after a truncated frame, 0 elsewhere.
    """

    goes_on: Bools
    beyond: Floats

    @classmethod
    def of(cls, episodes: Episodes, terminated: Any = None, truncated: Any = None, bootstrap: Any = None) -> Ends:
        """From flags (N,) and, for truncated frames, the value of the final observation (N,).

        Raises:
            ValueError: an episode's last frame has neither flag; a truncated frame has no finite bootstrap value.
        """
        total = episodes.total
        ended, cut = _flags("terminated", terminated, total), _flags("truncated", truncated, total)
        if terminated is None and truncated is None:
            ended[episodes.last] = True
        cut &= ~ended
        open_ends = int(np.count_nonzero(~(ended | cut)[episodes.last]))
        if open_ends:
            raise ValueError(f"{open_ends} episodes are neither terminated nor truncated at their last frame")
        beyond = np.zeros(total)
        if cut.any():
            given = np.full(total, np.nan) if bootstrap is None else np.asarray(bootstrap, dtype=np.float64)
            if given.shape != (total,):
                raise ValueError(f"bootstrap has shape {given.shape}, not ({total},)")
            missing = int(np.count_nonzero(~np.isfinite(given[cut])))
            if missing:
                raise ValueError(f"{missing} truncated frames have no bootstrap value")
            beyond[cut] = given[cut]
        return cls(~(ended | cut), beyond)


def discounted_returns(
    rewards: Any,
    episodes: Episodes,
    *,
    gamma: float = 1.0,
    terminated: Any = None,
    truncated: Any = None,
    bootstrap: Any = None,
) -> Floats:
    """(N,): ``G[t] = r[t] + gamma G[t+1]``; after a truncated frame is its bootstrap value, after an end 0."""
    ends = Ends.of(episodes, terminated, truncated, bootstrap)
    return _returns(episodes.column("rewards", rewards), ends, checks.number("gamma", gamma, low=0, high=1))


def monte_carlo(rewards: Any, values: Any, episodes: Episodes, **semantics: Any) -> Floats:
    """(N,): ``G[t] - V[t]``, the whole rest of the episode against what was expected.

    ``semantics`` are ``gamma``, ``terminated``, ``truncated`` and ``bootstrap`` of `discounted_returns`.
    """
    return discounted_returns(rewards, episodes, **semantics) - episodes.column("values", values)


def n_step(
    rewards: Any,
    values: Any,
    episodes: Episodes,
    *,
    n: int,
    gamma: float = 1.0,
    **semantics: Any,
) -> Floats:
    """(N,): ``sum_{k<n} gamma^k r[t+k] + gamma^n V[t+n] - V[t]``, or the Monte-Carlo one where an end comes first.

    ``semantics`` are ``terminated``, ``truncated`` and ``bootstrap`` of `discounted_returns`.

    It is the Monte-Carlo advantage of ``t`` less ``gamma^n`` times that of ``t + n``: the same sum, which is
    exactly 0 wherever the critic is exactly right.
    """
    n = checks.whole("n", n, low=1)
    gamma = checks.number("gamma", gamma, low=0, high=1)
    ends = Ends.of(episodes, **semantics)
    surprise = _returns(episodes.column("rewards", rewards), ends, gamma) - episodes.column("values", values)
    if n >= episodes.total:
        return surprise
    # A stretch ends where it does not go on; t + n is in the stretch of t if as many ended before both.
    stretch: Ints = np.cumsum(~ends.goes_on) - ~ends.goes_on
    surprise[:-n] -= np.where(stretch[n:] == stretch[:-n], gamma**n * surprise[n:], 0.0)
    return surprise


def gae(
    rewards: Any,
    values: Any,
    episodes: Episodes,
    *,
    lam: float,
    gamma: Any = 1.0,
    **semantics: Any,
) -> tuple[Floats, Floats]:
    """Advantages and returns (``A + V``), both (N,), by generalised advantage estimation (arXiv 1506.02438).

    ``delta[t] = r[t] + gamma V[t+1] - V[t]``; ``A[t] = delta[t] + gamma lam A[t+1]``. After an end V and A are 0,
    after a truncation V is the bootstrap value and A is 0.

    Args:
        rewards: (N,).
        values: (N,).
        episodes: where they begin.
        lam: 0 (one step) to 1 (Monte-Carlo).
        gamma: discount from a row to the next: one number, or (N,), as for chunks of different lengths.
        semantics: ``terminated``, ``truncated`` and ``bootstrap`` of `discounted_returns`.
    """
    lam = checks.number("lam", lam, low=0, high=1)
    ends = Ends.of(episodes, **semantics)
    value = episodes.column("values", values)
    reward = episodes.column("rewards", rewards)
    discount = np.broadcast_to(np.asarray(gamma, dtype=np.float64), (episodes.total,))
    if not ((discount >= 0) & (discount <= 1)).all():
        raise ValueError("gamma is not from 0 to 1")
    following = np.append(value[1:], 0.0) * ends.goes_on + ends.beyond
    delta = reward + discount * following - value
    advantage = reverse_scan(delta, discount * lam * ends.goes_on)
    return advantage, advantage + value


def _returns(reward: Floats, ends: Ends, gamma: float) -> Floats:
    return reverse_scan(reward + gamma * ends.beyond, np.where(ends.goes_on, gamma, 0.0))


def _flags(name: str, flags: Any, total: int) -> Bools:
    if flags is None:
        return np.zeros(total, dtype=np.bool_)
    array = np.asarray(flags)
    if array.shape != (total,) or array.dtype != np.bool_:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not ({total},) bool")
    return array.copy()
