"""What a critic's values are worth: told on episodes that it has not seen, with intervals over episodes.

Frames of one episode are alike, so that intervals come from drawing whole episodes again (B. Efron, 1979, Ann.
Statist. 7, 1-26). Two areas under the ROC curve say how often a frame of a solved episode is valued above one of a
failed episode:

- ``auc``: of any two frames. A critic that only knows how hard a task is, or counts steps, is above 0.5 here.
- ``auc_alike``: of frames of the same task and the same step number. What is left is what the critic sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Json
from vla_data.errors import RefusedError

Floats = NDArray[np.float64]

RESAMPLES: Final = 400
_BINS: Final = 10
AREAS: Final = ("auc", "auc_alike")


class Ranked:
    """Pairs of a solved and a failed frame, sorted once, so that any weights can be counted quickly.

    Args:
        values: ``(N,)``.
        solved: ``(N,)`` bool.
        strata: ``(N,)`` integers; only pairs within one count. None: all.
    """

    def __init__(self, values: Floats, solved: NDArray[np.bool_], strata: Any = None) -> None:
        group = np.zeros(len(values), dtype=np.int64) if strata is None else np.asarray(strata)
        self._order = np.lexsort((values, group))
        value, group = values[self._order], group[self._order]
        self._solved = solved[self._order]
        new = np.append(True, group[1:] != group[:-1])
        tied = new | np.append(True, value[1:] != value[:-1])
        self._ties, self._strata = np.flatnonzero(tied), np.flatnonzero(new)
        self._stratum = np.cumsum(new)[self._ties] - 1

    def area(self, weights: Floats | None = None) -> float:
        """Share of the pairs in which the solved frame has more, ties by half; NaN without pairs."""
        weight = np.ones(len(self._order)) if weights is None else weights[self._order]
        good, bad = np.where(self._solved, weight, 0.0), np.where(self._solved, 0.0, weight)
        goods, bads = np.add.reduceat(good, self._ties), np.add.reduceat(bad, self._ties)
        before = np.cumsum(bads) - bads
        first = np.searchsorted(self._ties, self._strata)
        below = before - before[first][self._stratum]
        pairs = float((np.add.reduceat(good, self._strata) * np.add.reduceat(bad, self._strata)).sum())
        return float((goods * (below + bads / 2)).sum()) / pairs if pairs > 0 else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Frames with the values of critics that have not seen their episodes.

    Attributes:
        value: ``(N,)``.
        target: ``(N,)`` returns, divided as values are.
        solved: ``(N,)`` bool, whether the episode was.
        episode: ``(N,)`` its number, 0 to E - 1.
        task: ``(N,)`` a number of it.
        frame: ``(N,)`` step number.
    """

    value: Floats
    target: Floats
    solved: NDArray[np.bool_]
    episode: NDArray[np.int64]
    task: NDArray[np.int64]
    frame: NDArray[np.int64]


def evidence(held: Held, *, seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Json]:
    """What the values say of outcomes: each figure with its 95 % interval, ``[low, high]``.

    Returns:
        ``auc`` and ``auc_alike`` (see the module); ``rank_correlation``, Spearman's, of values and returns, with
        ranks of all frames; ``calibration_error``, the mean distance between value and return in ten bins of equal
        size by value; ``calibration``: value, return and frames of each bin; ``episodes``, ``solved``, ``frames``.
        Figures are None where all episodes ended alike.
    """
    alike = held.task * (int(held.frame.max()) + 1) + held.frame
    areas = {"auc": Ranked(held.value, held.solved), "auc_alike": Ranked(held.value, held.solved, alike)}
    ranks = _ranks(held.value), _ranks(held.target)
    bins = (ranks[0] * _BINS / len(held.value)).astype(np.int64).clip(0, _BINS - 1)

    def figures(weights: Floats | None) -> list[float]:
        weight = np.ones(len(held.value)) if weights is None else weights
        return [*(area.area(weights) for area in areas.values()), _correlation(*ranks, weight), _error(weight)]

    def _error(weight: Floats) -> float:
        size, value, target = (
            np.bincount(bins, weight * what, minlength=_BINS) for what in (1.0, held.value, held.target)
        )
        return float(np.abs(value - target).sum() / size.sum())

    count = int(held.episode.max()) + 1
    random, drawn = np.random.default_rng(seed), []
    for _ in range(resamples):
        times = np.bincount(random.integers(count, size=count), minlength=count)
        drawn.append(figures(times[held.episode].astype(np.float64)))
    names = (*AREAS, "rank_correlation", "calibration_error")
    low, high = _bounds(np.array(drawn))
    ends = held.solved[np.unique(held.episode, return_index=True)[1]]
    return {
        **{name: _figure(*one) for name, *one in zip(names, figures(None), low, high, strict=True)},
        "calibration": _table(bins, held),
        "episodes": count,
        "solved": int(ends.sum()),
        "frames": len(held.value),
        "resamples": resamples,
    }


def weakness(found: Mapping[str, Any] | None) -> str | None:
    """Why a critic's advantages should not train a policy; None where nothing speaks against it."""
    if found is None:
        return "nothing is known of the critic on episodes that it has not seen"
    for name in AREAS:
        figure = found.get(name)
        if figure is None:
            return (
                f"{found.get('solved')} of {found.get('episodes')} episodes were solved: no two ended differently"
            )
        low, high = figure["interval"]
        if low <= 0.5:
            return f"{name} is {figure['value']:.3f} ({low:.3f} to {high:.3f}), which includes chance"
    return None


def trusted(found: Mapping[str, Any] | None, *, accept: bool) -> str | None:
    """What is weak about a critic and was accepted; None where it can be trusted.

    Raises:
        RefusedError: E402, it is weak and was not accepted.
    """
    why = weakness(found)
    if why is not None and not accept:
        raise RefusedError(
            "E402", f"the critic is no better than a guess: {why}; --accept-weak-critic trains on it"
        )
    return why


def lines(found: Mapping[str, Any]) -> list[str]:
    """For a person."""
    out = [
        f"critic on {found['episodes']:,} episodes that it has not seen ({found['solved']:,} solved,"
        f" {found['frames']:,} frames):"
    ]
    for name in (*AREAS, "rank_correlation", "calibration_error"):
        figure = found[name]
        said = (
            "not defined"
            if figure is None
            else "{:.3f} ({:.3f} to {:.3f})".format(figure["value"], *figure["interval"])
        )
        out.append(f"  {name:<18} {said}")
    for one in found.get("curve", ()):
        said = "not defined" if one["auc"] is None else f"{one['auc']:.3f}"
        out.append(f"  trained on {one['episodes']:>6,} episodes: auc {said}")
    return out


def _ranks(values: Floats) -> Floats:
    """0 to N - 1, ties at their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse.reshape(-1)])


def _correlation(a: Floats, b: Floats, weight: Floats) -> float:
    total = weight.sum()
    x, y = a - (weight * a).sum() / total, b - (weight * b).sum() / total
    spread = float((weight * x * x).sum() * (weight * y * y).sum())
    return float((weight * x * y).sum()) / spread**0.5 if spread > 0 else float("nan")


def _bounds(drawn: Floats) -> tuple[list[float], list[float]]:
    """2.5 and 97.5 % quantiles of each column; a resample without pairs says nothing and is left out."""
    columns = [column[np.isfinite(column)] for column in drawn.T]
    pairs = [np.quantile(column, (0.025, 0.975)) if len(column) else (np.nan, np.nan) for column in columns]
    return [float(pair[0]) for pair in pairs], [float(pair[1]) for pair in pairs]


def _figure(value: float, low: float, high: float) -> Json:
    return {"value": value, "interval": [low, high]} if np.isfinite((value, low, high)).all() else None


def _table(bins: NDArray[np.int64], held: Held) -> list[Json]:
    there = [number for number in range(_BINS) if (bins == number).any()]
    return [
        {
            "value": float(held.value[bins == number].mean()),
            "return": float(held.target[bins == number].mean()),
            "frames": int((bins == number).sum()),
        }
        for number in there
    ]
