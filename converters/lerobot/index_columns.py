"""The index columns of a LeRobot dataset and their statistics, which follow from where an episode begins.

Taking statistics of them as of any other numbers was a third of what a short episode costs the process that writes
the dataset. Counting up by one from ``a`` for ``n`` steps has the mean ``a + (n - 1) / 2`` and the spread of
counting up from 0; a quantile lies between two neighbours (the linear rule of `numpy.quantile`). All of that is
exact in float64 as long as the sum of the numbers is below 2**53, so the results are `vector_stats`'s to the last
bit; beyond that they are `vector_stats`'s.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Json
from vla_data.statistics import vector_stats
from vla_data.statistics.vectors import QUANTILES

_EXACT: Final = 1 << 53
_LEVELS: Final = np.array(list(QUANTILES.values()))


def index_columns(
    tasks: Sequence[str], numbers: Mapping[str, int], *, episode: int, first: int, fps: float
) -> tuple[dict[str, NDArray[Any]], dict[str, Json]]:
    """Columns and statistics of one episode.

    Args:
        tasks: the instruction of each of its ``T`` steps.
        numbers: ``task_index`` of each instruction.
        episode: its ``episode_index``.
        first: ``index`` of its first step.
        fps: steps a second, which ``timestamp`` is by.

    Returns:
        Column -> ``(T,)`` values, float32 seconds or int64; and column -> statistics as `vector_stats` gives them.
    """
    count = len(tasks)
    task = np.asarray([numbers[text] for text in tasks], dtype=np.int64)
    columns: dict[str, NDArray[Any]] = {
        "timestamp": _timestamps(count, fps),
        "frame_index": np.arange(count),
        "episode_index": np.full(count, episode),
        "index": np.arange(first, first + count),
        "task_index": task,
    }
    one_task = len(set(tasks)) == 1
    stats: dict[str, Json] = {
        "timestamp": _timestamp_stats(count, fps),
        "frame_index": _count_stats(count),
        "episode_index": constant_stats(episode, count),
        "index": counting_stats(first, count),
        "task_index": constant_stats(int(task[0]), count) if one_task else vector_stats(task),
    }
    return columns, stats


def _timestamps(count: int, fps: float) -> NDArray[np.float32]:
    return (np.arange(count) / fps).astype(np.float32)


@functools.lru_cache(1024)
def _timestamp_stats(count: int, fps: float) -> dict[str, Json]:
    return vector_stats(_timestamps(count, fps))


@functools.lru_cache(1024)
def _count_stats(count: int) -> dict[str, Json]:
    return vector_stats(np.arange(count))


def constant_stats(value: int, count: int) -> dict[str, Json]:
    """Of ``value``, ``count`` times."""
    if abs(value) * count >= _EXACT:
        return vector_stats(np.full(count, value))
    same = [float(value)]
    return {
        **dict.fromkeys(("min", "max", "mean"), same),
        "std": [0.0],
        "count": [count],
        **dict.fromkeys(QUANTILES, same),
    }


def counting_stats(first: int, count: int) -> dict[str, Json]:
    """Of ``first``, ``first + 1`` and so on, ``count`` numbers."""
    if (first + count) * count >= _EXACT:
        return vector_stats(np.arange(first, first + count))
    place = (count - 1) * _LEVELS
    below = np.floor(place)
    share = place - below
    low = first + below
    step = np.minimum(low + 1, first + count - 1) - low
    levels = np.where(share >= 0.5, low + step - step * (1 - share), low + step * share)
    return {
        "min": [float(first)],
        "max": [float(first + count - 1)],
        "mean": [first + (count - 1) / 2],
        "std": _count_stats(count)["std"],
        "count": [count],
        **{name: [level] for name, level in zip(QUANTILES, levels.tolist(), strict=True)},
    }
