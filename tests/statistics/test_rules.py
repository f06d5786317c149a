"""Every trainer's way to normalise, and back; hand-computed numbers and what must hold for all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vla_data.errors import UsageError
from vla_data.statistics import RULES, VectorStats, denormalize, normalize

NUMBER = st.floats(-1e3, 1e3, width=32)
CLIPPED = sorted(name for name, rule in RULES.items() if rule is not None and rule.clip)
OPEN = sorted(set(RULES) - set(CLIPPED))


def stats_of(data: np.ndarray[Any, Any], mask: list[bool] | None = None) -> dict[str, Any]:
    out = VectorStats.of(data).to_json()
    out |= {"p01": out["q01"], "p99": out["q99"]}
    return out if mask is None else {**out, "mask": mask}


TABLE = arrays.arrays(np.float64, st.tuples(st.integers(2, 60), st.just(3)), elements=NUMBER)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CLIPPED), TABLE)
def test_round_trip_is_the_value_clipped_to_the_bounds(name: str, data: np.ndarray[Any, Any]) -> None:
    rule, stats = RULES[name], stats_of(data)
    assert rule is not None
    low, high = np.array(stats[rule.low]), np.array(stats[rule.high])
    back = denormalize(normalize(data, stats, name), stats, name)
    # OpenVLA and Octo add 1e-8 on the way there alone; GR00T calls what `numpy.isclose` does one value.
    slack = 1e-6 * (high - low) + 1e-8 + (2e-5 * np.abs(high) if rule.near else 0)
    held = (low < high) | (rule.equal != "keep")
    assert (np.abs(back - np.clip(data, low, high)) <= slack)[:, held].all()
    assert np.isfinite(normalize(data, stats, name)).all()
    assert np.abs(normalize(data, stats, name)).max() <= 1


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(OPEN), TABLE)
def test_round_trip_without_clipping_is_the_value(name: str, data: np.ndarray[Any, Any]) -> None:
    stats = stats_of(data)
    there = normalize(data, stats, name)
    assert np.isfinite(there).all()
    back = denormalize(there, stats, name)
    low, high = np.array(stats["min"]), np.array(stats["max"])
    held = (
        np.ones(3, dtype=bool) if name != "gr00t_n1.min_max" else low < high
    )  # which makes a constant 0 and back
    # Formulas without 1e-8 on the way back lose (x - mean) * 1e-8 / std.
    loss = 1e-8 * (high - low) / np.maximum(stats["std"], 1e-8) if name.endswith(("normal", "mean_std")) else 0
    slack = 1e-6 * (high - low) + 1e-9 + loss
    assert (np.abs(back - data) <= slack)[:, held].all()


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["openvla.bounds_q99", "openvla.normal", "octo.bounds", "octo.normal"]), TABLE)
def test_masked_elements_stay_as_they_are(name: str, data: np.ndarray[Any, Any]) -> None:
    stats = stats_of(data, mask=[True, False, False])
    kept = np.array([False, True, True])
    if name == "openvla.bounds_q99":
        kept &= np.array(stats["min"]) < np.array(stats["max"])  # its loader makes constants 0
    assert np.array_equal(normalize(data, stats, name)[:, kept], data[:, kept])
    assert np.array_equal(denormalize(data, stats, name)[:, 1:], data[:, 1:])


def test_openvlas_example() -> None:
    stats = {"q01": [-0.02, -0.03], "q99": [0.03, 0.05], "min": [-1, -1], "max": [1, 1]}
    there = normalize([0.01, 0.06], stats, "openvla.bounds_q99")
    assert np.allclose(there, [0.19999976, 1.0], rtol=0, atol=1e-8)
    assert np.allclose(denormalize(there, stats, "openvla.bounds_q99"), [0.01, 0.05], rtol=0, atol=1e-8)


def test_openpis_examples() -> None:
    assert np.isclose(normalize([0.3], {"mean": [0.1], "std": [0.2]}, "openpi.zscore")[0], 0.999995, atol=1e-10)
    there = normalize([0.3], {"q01": [-0.5], "q99": [1.0]}, "openpi.quantile")
    assert np.isclose(there[0], 0.0666660, rtol=0, atol=1e-6)


def test_openpi_does_not_clip_and_explodes_where_quantiles_are_equal() -> None:
    stats = {"q01": [0.04], "q99": [0.04]}
    assert np.isclose(normalize([0.041], stats, "openpi.quantile")[0], 1999, atol=1e-6)


def test_openpi_cuts_statistics_and_passes_padded_elements_through() -> None:
    stats = {"q01": [0.0, 0.0], "q99": [2.0, 2.0], "mean": [0.0, 0.0], "std": [2.0, 2.0]}
    assert normalize([1.0], stats, "openpi.quantile").shape == (1,)
    assert denormalize([0.0, 0.0, 0.7], stats, "openpi.quantile")[2] == 0.7
    assert denormalize([0.0, 0.0, 1.0], stats, "openpi.zscore")[2] == 1 + 1e-6


def test_openvla_makes_constants_zero_even_where_the_mask_says_to_keep_them() -> None:
    stats = stats_of(np.full((200, 1), 0.7), mask=[False])
    assert normalize([0.7], stats, "openvla.bounds_q99").tolist() == [0.0]
    assert denormalize([0.0], stats, "openvla.bounds_q99").tolist() == [0.0]
    assert normalize([0.7], stats, "octo.bounds").tolist() == [0.7]


def test_gr00t_treats_constants_by_version() -> None:
    stats = stats_of(np.full((200, 1), 0.7))
    assert normalize([0.7], stats, "gr00t.min_max").tolist() == [0.0]
    assert denormalize([0.0], stats, "gr00t.min_max").tolist() == [0.7]
    assert normalize([0.7], stats, "gr00t_n1.q99").tolist() == [0.7]
    assert normalize([0.7], stats, "gr00t.mean_std").tolist() == [0.7]
    assert denormalize([0.7], stats, "gr00t.mean_std").tolist() == [0.7]


def test_lerobot_maps_a_constant_to_minus_one() -> None:
    stats = stats_of(np.full((200, 1), 0.7))
    assert normalize([0.7], stats, "lerobot.quantiles").tolist() == [-1.0]
    assert denormalize([-1.0], stats, "lerobot.quantiles").tolist() == [0.7]
    assert normalize([0.7], stats, "lerobot.mean_std").tolist() == [0.0]


def test_rdt_feeds_what_it_is_given() -> None:
    assert normalize([3.0], {}, "rdt").tolist() == denormalize([3.0], {}, "rdt").tolist() == [3.0]


@pytest.mark.parametrize(
    ("stats", "rule", "message"),
    [
        ({}, "openvla.q99", "there is no rule"),
        ({"q01": [0.0, 0.0]}, "openvla.bounds_q99", "have no q99"),
        ({"q01": [0.0], "q99": [1.0], "min": [0.0], "max": [1.0]}, "openvla.bounds_q99", "2 elements"),
        ({"q01": [0.0, 0.0], "q99": None}, "openpi.quantile", "have no q99"),
    ],
)
def test_wrong_calls_are_refused(stats: dict[str, Any], rule: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        normalize([0.0, 0.0], stats, rule)


def test_rules_are_sorted() -> None:
    assert list(RULES) == sorted(RULES)
