"""RECAP's targets and advantages (pi*0.6, arXiv 2511.14759), in closed form.

Every action costs 1, the last one of a success nothing and that of a failure ``c_neg``:

    R[t] = -(T-1-t)              in a success, 0 at its last frame
    R[t] = -(T-1-t) + c_neg      in a failure
    A[t] = (R[t] - R[t+n]) / normaliser + V[t+n] - V[t]       while t+n is in the episode
    A[t] =  R[t]           / normaliser        - V[t]         from there on, and for Monte-Carlo everywhere

``R[t] - R[t+n]`` is the sum of the n rewards in between, so no reward is ever built. Both cases are differences of
``R/normaliser - V``, which makes a perfect critic's advantage exactly 0, success or failure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from vla_data import options as checks
from vla_data.advantages.numbers.flat import Bools, Episodes, Floats, Ints

UNLABELLED: Final = ("error", "failure", "success")
Unlabelled = Literal["error", "failure", "success"]
_BLOCK: Final = 1 << 16  # rows whose arrays stay in the processor's cache


@dataclass(frozen=True, kw_only=True)
class Recap:
    """The rules of an annotation.

    Attributes:
        c_neg: what a failure costs, a whole number at or below 0. Upstream's configurations say -1000.
        normalizer: what values are divided by, a whole number of steps; or "per-task": for each task the smallest
            that leaves no target below -1, which is its longest episode's ``T - 1`` plus ``-c_neg``.
        n: steps looked ahead, or None for Monte-Carlo.
    """

    c_neg: int = -1000
    normalizer: int | Literal["per-task"] = 1600
    n: int | None = 50

    def __post_init__(self) -> None:
        checks.whole("-c_neg", -self.c_neg if isinstance(self.c_neg, int) else self.c_neg, low=0, high=10**9)
        if self.normalizer != "per-task":
            checks.whole("normalizer", self.normalizer, low=1, high=10**9)
        if self.n is not None:
            checks.whole("n", self.n, low=1)

    def normalizers(self, episodes: Episodes, tasks: Any) -> Ints:
        """(E,): the normaliser of each episode; ``tasks`` (E,) are labels."""
        if self.normalizer != "per-task":
            return np.full(len(episodes), self.normalizer, dtype=np.int64)
        _, task = np.unique(np.asarray(tasks), return_inverse=True)
        task = task.reshape(-1)
        longest = np.zeros(task.max(initial=-1) + 1, dtype=np.int64)
        np.maximum.at(longest, task, episodes.lengths)
        return np.asarray(np.maximum(longest - 1 - self.c_neg, 1)[task])

    def final_returns(self, success: Bools) -> Ints:
        """(E,): R at each episode's last frame."""
        solved = np.asarray(success)
        if solved.dtype != np.bool_:
            raise ValueError(f"success is {solved.dtype}, not bool")
        return np.where(solved, 0, self.c_neg).astype(np.int64)

    def returns(self, episodes: Episodes, success: Bools) -> Ints:
        """(N,): R, not normalised."""
        offsets = episodes.per_frame(self.final_returns(success) - episodes.last)
        return np.asarray(np.arange(episodes.total) + offsets)

    def check(self, episodes: Episodes, success: Bools, normalizers: Ints) -> None:
        """Refuse a normaliser that would push targets below -1, where bins end.

        Raises:
            ValueError: with how many episodes, and the smallest normaliser that holds all.
        """
        depth = episodes.lengths - 1 - self.final_returns(success)
        low = depth > normalizers
        if low.any():
            raise ValueError(
                f"the normalizer {int(normalizers[low].min())} is too small for {int(low.sum())} of "
                f"{len(episodes)} episodes: they need {int(depth.max())} or more"
            )

    def advantages(self, values: Any, episodes: Episodes, success: Bools, normalizers: Ints) -> Floats:
        """(N,): A of the module's formulas. ``values`` (N,) are V, on the scale of R / normaliser."""
        value = np.asarray(values)
        if value.shape != (episodes.total,) or value.dtype.kind != "f":
            raise ValueError(f"values are {value.dtype} of shape {value.shape}, not ({episodes.total},) floats")
        surprise = np.empty(episodes.total)
        final = self.final_returns(success)
        offset, scale = (final - episodes.last).astype(np.float64), np.asarray(normalizers, dtype=np.float64)
        same = bool((scale == scale[:1]).all())
        for block, lengths, chosen in _blocks(episodes):
            part = surprise[block]
            np.add(np.repeat(offset[chosen], lengths), np.arange(block.start, block.stop), out=part)
            part /= scale[0] if same else np.repeat(scale[chosen], lengths)
            part -= value[block]
            if not np.isfinite(part).all():
                at = block.start + int(np.argmin(np.isfinite(part)))
                raise ValueError(f"values are {value[at]} at frame {at}")
        if self.n is None or self.n >= episodes.lengths.max(initial=0):
            return surprise
        n = self.n
        # In place, from the front: what is taken off a row lies behind it and is still whole.
        for block, lengths, chosen in _blocks(episodes):
            stop = min(block.stop, episodes.total - n)
            if stop <= block.start:
                break
            rows = np.arange(block.start + n, stop + n)
            inside = rows < np.repeat(episodes.ends[chosen], lengths)[: stop - block.start]
            surprise[block.start : stop] -= np.where(inside, surprise[block.start + n : stop + n], 0.0)
        return surprise

    def look_ahead(self, episodes: Episodes) -> Ints:
        """(N,): how many rewards are in A[t]: ``n``, or fewer where the episode ends before."""
        left = episodes.steps_left() + 1
        return left if self.n is None else np.minimum(left, self.n)


def resolve_success(labels: Sequence[bool | None], unlabelled: Unlabelled) -> Bools:
    """(E,) bool from labels that may be None, by a declared rule.

    Raises:
        ValueError: an episode has no label, with ``unlabelled="error"``.
    """
    checks.one_of("unlabelled", unlabelled, UNLABELLED)
    missing = [at for at, label in enumerate(labels) if label is None]
    if missing and unlabelled == "error":
        raise ValueError(
            f"{len(missing)} of {len(labels)} episodes have no success label (as episode {missing[0]}); "
            "say what they count as (--unlabelled success, or failure)"
        )
    return np.array([unlabelled == "success" if label is None else label for label in labels], dtype=np.bool_)


def _blocks(episodes: Episodes) -> Any:
    """(rows, how many of them each episode has, those episodes), in pieces of some ten thousand rows."""
    starts, ends = episodes.starts, episodes.ends
    for start in range(0, episodes.total, _BLOCK):
        stop = min(start + _BLOCK, episodes.total)
        first = int(np.searchsorted(ends, start, side="right"))
        past = int(np.searchsorted(starts, stop, side="left"))
        chosen = slice(first, past)
        yield (
            slice(start, stop),
            np.minimum(ends[chosen], stop) - np.maximum(starts[chosen], start),
            chosen,
        )
