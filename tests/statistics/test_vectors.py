"""Exact statistics that add up: NumPy on everything at once is the oracle for any split and order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.statistics import QUANTILES, Mixture, VectorStats, vector_stats
from vla_data.statistics.runs import Column, Run

LEVELS = [0.0, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99, 1.0]
ODD = np.array([0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 1e6, -1e6, 1e-30])


@st.composite
def pieces(draw: st.DrawFn) -> list[NDArray[Any]]:
    """Some tables of one width, of float32 or float64, some with many equal values."""
    width = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    out = []
    for length in draw(st.lists(st.integers(1, 40), min_size=1, max_size=40)):
        table = rng.choice(ODD, (length, width)) if rng.random() < 0.5 else rng.normal(size=(length, width))
        out.append(table.astype(rng.choice([np.float32, np.float64])))
    return out


def together(tables: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([table.astype(np.float64) for table in tables])


def check(stats: VectorStats, data: NDArray[np.float64]) -> None:
    """Count, bounds and quantiles are NumPy's to the last bit, mean and std to 1e-9 of the data's scale."""
    assert stats.count == len(data)
    assert np.array_equal(stats.min, data.min(axis=0))
    assert np.array_equal(stats.max, data.max(axis=0))
    assert np.array_equal(stats.quantiles(LEVELS), np.quantile(data, LEVELS, axis=0))
    scale = np.abs(data).max() + 1e-300
    assert np.abs(stats.mean - data.mean(axis=0)).max() <= 1e-9 * scale
    assert np.abs(stats.std - data.std(axis=0)).max() <= 1e-9 * scale


@settings(max_examples=200, deadline=None)
@given(pieces(), st.randoms(use_true_random=False))
def test_any_split_and_order_gives_what_numpy_gives(tables: list[NDArray[Any]], random: Any) -> None:
    order = list(range(len(tables)))
    random.shuffle(order)
    parts = [VectorStats.of(tables[i]) for i in order]
    while len(parts) > 1:  # merged as a random tree
        i = random.randrange(len(parts) - 1)
        parts[i : i + 2] = [parts[i].merge(parts[i + 1])]
    check(parts[0], together(tables))


@settings(max_examples=200, deadline=None)
@given(pieces(), pieces(), pieces())
def test_merge_is_commutative_and_associative(a: Any, b: Any, c: Any) -> None:
    width = min(table.shape[1] for tables in (a, b, c) for table in tables)
    x, y, z = (VectorStats.of(together([table[:, :width] for table in tables])) for tables in (a, b, c))
    left, right = x.merge(y).merge(z), x.merge(y.merge(z))
    assert x.merge(y).to_json() == y.merge(x).to_json()
    scale = max(np.abs(left.min).max(), np.abs(left.max).max()) + 1e-300
    for key, value in left.to_json().items():
        other = right.to_json()[key]
        if key in ("mean", "std"):
            assert np.abs(np.subtract(value, other)).max() <= 1e-9 * scale
        else:
            assert value == other


@settings(max_examples=100, deadline=None)
@given(pieces())
def test_spilled_statistics_are_the_same_and_take_no_memory(tables: list[NDArray[Any]]) -> None:
    stats = VectorStats.of(tables[0])
    for table in tables[1:]:
        stats = stats.spilled().update(table)
    check(stats, together(tables))
    assert stats.spilled().nbytes == 0
    assert stats.spilled().to_json() == stats.to_json()


@settings(max_examples=100, deadline=None)
@given(pieces(), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_counts_between_limits_are_numpys(tables: list[NDArray[Any]], a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    data = together(tables)
    stats = VectorStats.of(tables[0])
    for table in tables[1:]:
        stats = stats.update(table)
    for i, column in enumerate(stats.columns):
        inside = data[:, i][(data[:, i] >= low) & (data[:, i] <= high)]
        values, counts = column.between(low, high)
        assert np.array_equal(np.sort(np.repeat(values, counts)), np.sort(inside))
        assert column.below([low, high], inclusive=False).tolist() == [(data[:, i] < v).sum() for v in (low, high)]
    share = stats.share_outside(np.full(stats.width, low), np.full(stats.width, high))
    assert np.allclose(share, ((data < low) | (data > high)).mean(axis=0), rtol=0, atol=1e-15)


def test_limits_between_two_float32_numbers_count_right() -> None:
    third = np.float32(1 / 3)
    column = Column((Run.of(np.array([third], dtype=np.float32)),))
    assert float(third) != 1 / 3
    assert column.below([1 / 3, float(third)], inclusive=True).tolist() == [int(float(third) <= 1 / 3), 1]
    assert column.below([1 / 3, float(third)], inclusive=False).tolist() == [int(float(third) < 1 / 3), 0]
    assert column.below([1e300, -1e300], inclusive=True).tolist() == [1, 0]


def test_many_small_updates_keep_few_runs_and_repeated_values_little_memory() -> None:
    rng = np.random.default_rng(0)
    data = np.stack([rng.normal(size=20_000), np.where(rng.random(20_000) < 0.5, -1.0, 1.0)], axis=1)
    stats = VectorStats.of(data[:20])
    for start in range(20, len(data), 20):
        stats = stats.update(data[start : start + 20])
    check(stats, data)
    continuous, gripper = stats.columns
    assert len(continuous.runs) < 64
    assert continuous.nbytes == 8 * len(data)
    assert gripper.nbytes < 4096


def test_a_constant_has_no_deviation_at_all() -> None:
    stats = VectorStats.of(np.full((1000, 1), 0.1)).update(np.full((7, 1), 0.1))
    assert (stats.mean[0], stats.std[0]) == (0.1, 0.0)


def test_a_small_deviation_far_from_zero_is_kept() -> None:
    """openpi's ``E[x^2] - mean^2`` in float32 gives 0 here."""
    data = (1000 + 0.01 * np.random.default_rng(0).normal(size=(3200, 1))).astype(np.float32)
    check(VectorStats.of(data), data.astype(np.float64))
    assert VectorStats.of(data).std[0] > 0.009


def test_arguments_stay_as_they_are() -> None:
    for shape in [(3, 1), (3,), (3, 2)]:
        data = np.arange(np.prod(shape), 0, -1, dtype=np.float64).reshape(shape)
        before = data.copy()
        VectorStats.of(data)
        assert np.array_equal(data, before)


def test_json_is_what_vector_stats_gives() -> None:
    data = np.random.default_rng(0).normal(size=(50, 3))
    ours, theirs = VectorStats.of(data).to_json(), vector_stats(data)
    assert list(ours) == list(theirs)
    for key in ours:
        assert np.allclose(ours[key], theirs[key], rtol=0, atol=1e-15), key


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ([1.0, np.nan], "E201"),
        ([1.0, -np.inf], "E201"),
        ([1.0, 1e200], "E202"),
        (np.array([1, 2**53 + 1]), "E208"),
        (np.array(["a"]), "E232"),
    ],
)
def test_what_has_no_exact_statistics_is_refused(values: Any, code: str) -> None:
    with pytest.raises(DataError) as caught:
        VectorStats.of(np.asarray(values))
    assert caught.value.code == code


def test_vectors_of_another_width_and_nothing_at_all_are_refused() -> None:
    one = VectorStats.of(np.zeros((2, 1)))
    with pytest.raises(ValueError, match="statistics of 1 elements can't be merged with those of 2"):
        one.merge(VectorStats.of(np.zeros((2, 2))))
    with pytest.raises(ValueError, match="nothing"):
        VectorStats.of(np.zeros((0, 2)))
    assert one.update(np.zeros((0, 1))) is one


@settings(max_examples=50, deadline=None)
@given(pieces(), pieces(), st.integers(1, 20), st.integers(1, 20))
def test_mixture_is_numpys_weighted_quantile(a: Any, b: Any, wa: int, wb: int) -> None:
    width = min(table.shape[1] for tables in (a, b) for table in tables)
    x, y = (together([table[:, :width] for table in tables]) for tables in (a, b))
    mixture = Mixture((VectorStats.of(x), VectorStats.of(y)), (wa, wb))
    # Whole numbers of copies give the same mixture, without any rounding of weights.
    copies = np.concatenate([np.repeat(x, wa * len(y), axis=0), np.repeat(y, wb * len(x), axis=0)])
    ordered = np.sort(copies, axis=0)
    levels = [0.25, 0.5, 0.75]  # exact in binary
    places = [max(-(-len(copies) * k // 4) - 1, 0) for k in (1, 2, 3)]
    assert np.array_equal(mixture.quantiles(levels), ordered[places] + 0.0)
    scale = np.abs(copies).max() + 1e-300
    assert np.abs(mixture.mean - copies.mean(axis=0)).max() <= 1e-9 * scale
    assert np.abs(mixture.std - copies.std(axis=0)).max() <= 1e-9 * scale
    assert np.array_equal(mixture.min, copies.min(axis=0))
    assert np.array_equal(mixture.max, copies.max(axis=0))
    assert mixture.count == len(x) + len(y)


def test_mixture_of_equal_shares_ignores_sizes() -> None:
    small, large = VectorStats.of(np.zeros((10, 1))), VectorStats.of(np.ones((990, 1)))
    stats = Mixture((small, large), (1.0, 1.0)).to_json()
    assert (stats["mean"], stats["std"], stats["q01"], stats["q50"], stats["q90"]) == ([0.5], [0.5], [0], [0], [1])
    assert small.merge(large).to_json()["mean"] == [0.99]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.0), (1.0, float("nan"))])
def test_mixture_with_senseless_weights_is_refused(weights: tuple[float, ...]) -> None:
    parts = (VectorStats.of(np.zeros((2, 1))),) * 2
    with pytest.raises(ValueError, match="weight"):
        Mixture(parts, weights)


@settings(max_examples=60, deadline=None)
@given(pieces(), st.integers(0, 2**32))
def test_many_elements_are_what_each_is_alone_to_the_last_bit(tables: list[NDArray[Any]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = np.concatenate([tables[0], rng.choice([*ODD, np.nan, np.inf], tables[0].shape)], axis=1)
    found = vector_stats(table.astype(tables[0].dtype))
    for element in range(table.shape[1]):
        column = table[:, element].astype(tables[0].dtype).astype(np.float64)
        column = column[np.isfinite(column)] if np.isfinite(column).any() else np.zeros(1)
        want = [float(getattr(column, name)()) for name in ("min", "max", "mean", "std")]
        want += np.quantile(column, list(QUANTILES.values())).tolist()
        names = ("min", "max", "mean", "std", *QUANTILES)
        assert [repr(found[name][element]) for name in names] == [repr(value) for value in want]
