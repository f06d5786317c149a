"""Statistics of index columns in closed form are those that were taken of the values, to the last bit."""

from __future__ import annotations

import random

import numpy as np
import pytest

from converters.lerobot.index_columns import constant_stats, counting_stats, index_columns
from vla_data.statistics import vector_stats

PLACES = [(0, 1), (0, 2), (5, 1), (999_999, 3), (2**52 // 400, 399), (2**53 // 7, 7), (2**53 - 40, 11)]


@pytest.mark.parametrize(("first", "count"), PLACES)
def test_counting_has_the_statistics_of_its_numbers(first: int, count: int) -> None:
    assert counting_stats(first, count) == vector_stats(np.arange(first, first + count))
    assert constant_stats(first, count) == vector_stats(np.full(count, first))


def test_so_it_has_wherever_an_episode_begins() -> None:
    choose = random.Random(0)
    for _ in range(500):
        first, count = choose.randrange(10 ** choose.randrange(1, 11)), choose.randrange(1, 700)
        assert counting_stats(first, count) == vector_stats(np.arange(first, first + count)), (first, count)


@pytest.mark.parametrize("tasks", [["a", "a", "a"], ["a", "b", "b"]])
def test_columns_and_statistics_are_of_the_same_numbers(tasks: list[str]) -> None:
    columns, stats = index_columns(tasks, {"b": 4, "a": 1}, episode=7, first=100, fps=3.0)
    assert {name: values.tolist() for name, values in columns.items()} == {
        "timestamp": [0.0, float(np.float32(1 / 3)), float(np.float32(2 / 3))],
        "frame_index": [0, 1, 2],
        "episode_index": [7, 7, 7],
        "index": [100, 101, 102],
        "task_index": [{"a": 1, "b": 4}[task] for task in tasks],
    }
    assert stats == {name: vector_stats(values) for name, values in columns.items()}
