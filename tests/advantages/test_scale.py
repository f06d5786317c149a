"""A critic on another scale, and labels that rounding decides about, are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_data import advantages as adv
from vla_data.advantages.frame_table import _flag
from vla_data.advantages.numbers.flat import Episodes
from vla_data.advantages.scale import check_labels, check_scale, resolution
from vla_data.errors import DataError, UsageError

LENGTHS = np.asarray([60, 60, 40])
EPISODES = Episodes.from_numbers(np.repeat(np.arange(3), LENGTHS))
RULES = adv.Recap()
SUCCESS = np.asarray([True, False, True])
SCALES = RULES.normalizers(EPISODES, np.zeros(3))
RETURNS = RULES.returns(EPISODES, SUCCESS).astype(np.float64)
TARGETS = RETURNS / 1600


def told(values: Any) -> list[str]:
    return check_scale(np.asarray(values, dtype=np.float64), TARGETS, EPISODES, 1600.0)


@pytest.mark.parametrize("values", [RETURNS, RETURNS - 1000, -np.arange(160.0), TARGETS + 1.5, np.full(160, -2.5)])
def test_values_beyond_every_return_are_refused(values: Any) -> None:
    with pytest.raises(UsageError, match=r"E302.*on another scale than returns divided by the normalizer"):
        told(values)
    if values is RETURNS:
        with pytest.raises(UsageError, match="values in steps must be divided by 1600"):
            told(values)


@pytest.mark.parametrize("factor", [10.0, 27.0, 0.1])
def test_values_of_another_normalizer_get_a_word(factor: float) -> None:
    means = np.repeat([TARGETS[EPISODES.per_frame(np.arange(3)) == e].mean() for e in range(3)], LENGTHS)
    rng = np.random.default_rng(0)
    values = means + factor * (TARGETS - means) + rng.normal(size=160) * 1e-4
    (warning,) = told(values)
    assert "values rise " in warning
    assert "another normalizer" in warning


@pytest.mark.parametrize("seed", range(5))
def test_a_critic_that_is_right_or_only_poor_gets_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for values in (TARGETS, TARGETS + rng.normal(size=160) * 0.01, rng.uniform(-1, 0, size=160), np.zeros(160)):
        assert told(values) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (1 + TARGETS, r"half of them above 0\.\d+.*p - 1 is one"),
        (np.where(np.repeat(SUCCESS, LENGTHS), 0.9, 0.1) + TARGETS / 100, "probability of success"),
        (np.concatenate([np.linspace(0, 1, n) for n in LENGTHS]), "half of them above 0.5"),
        (-TARGETS + 0.2, "costs are minus values"),
    ],
)
def test_probabilities_progress_and_costs_are_no_values(values: Any, said: str) -> None:
    with pytest.raises(UsageError, match=f"E302.*{said}"):
        told(values)


REVERSED = np.concatenate([TARGETS[at : at + n][::-1] for at, n in zip((0, 60, 120), LENGTHS, strict=True)])


@pytest.mark.parametrize("values", [-TARGETS / 20, REVERSED])
def test_values_that_fall_where_returns_rise_get_a_word(values: Any) -> None:
    (warning,) = told(values)
    assert "values fall along an episode where returns rise" in warning


@pytest.mark.parametrize("factor", [0.6, 0.7, 1.5, 2.5])
def test_exact_values_of_another_normalizer_get_a_word_though_it_is_near(factor: float) -> None:
    (warning,) = told(factor * TARGETS)
    assert f"values rise {factor:.3g} times as fast" in warning


def labelled(values: Any, *, dtype: Any = np.float64, n: int | None = 10, share: float = 0.3) -> list[str]:
    stored = np.asarray(values).astype(dtype)
    rules = adv.Recap(n=n)
    advantages = rules.advantages(stored.astype(np.float64), EPISODES, SUCCESS, SCALES)
    bound = adv.threshold(advantages, share=share)
    fine = resolution(stored.astype(np.float64), dtype, TARGETS)
    return check_labels(advantages, np.asarray([bound.epsilon]), adv.label(advantages, bound), 2 * fine)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 10, None])
def test_labels_of_a_perfect_critic_that_was_rounded_are_refused(dtype: Any, n: int | None) -> None:
    if dtype == np.float64:
        assert labelled(TARGETS, n=n) == []  # exactly 0 everywhere: ties, which thresholds tell
        dtype = np.float32
        values = TARGETS.astype(np.float32).astype(np.float64)  # doubles that were once single
        with pytest.raises(UsageError, match=r"E302.*rounding decides"):
            labelled(values, n=n)
        return
    with pytest.raises(UsageError, match=r"E302.*all \d+ positive labels.*rounding decides"):
        labelled(TARGETS, dtype=dtype, n=n)


def test_labels_that_rounding_touches_get_a_word_and_others_none() -> None:
    values = TARGETS + np.random.default_rng(0).normal(size=160) * 0.05
    for dtype in (np.float32, np.float64):
        assert labelled(values, dtype=dtype) == []
    coarse = TARGETS + np.random.default_rng(0).normal(size=160) * 0.003
    (warning,) = labelled(coarse, dtype=np.float16)
    assert "are decided by the rounding of values" in warning


@pytest.mark.parametrize("word", ["true", "false", "True", "yes", "1", "success"])
def test_success_as_text_is_called_so(word: str) -> None:
    with pytest.raises(DataError, match=f"E205.*success is a text, '{word}', where true or false"):
        _flag(word, "success")


def test_how_far_a_value_may_be_off_is_that_of_its_type() -> None:
    assert resolution(np.asarray([-0.5]), np.float16, TARGETS)[0] == 2**-11
    assert resolution(np.asarray([-0.5]), np.float32, TARGETS)[0] == 2**-24
    few = np.linspace(-1, 0, 9)
    assert resolution(few, np.float64, TARGETS).max() < 1e-15  # so few may be round numbers by chance


def bfloat16(values: Any) -> Any:
    return (np.asarray(values, np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("rounded", "apart"),
    [(bfloat16, 2.0**-7), *((lambda v, n=n: np.round(v, n), 10.0**-n) for n in (1, 2, 3, 4))],
)
def test_rounding_is_seen_whatever_type_the_values_came_in(rounded: Any, apart: float, dtype: Any) -> None:
    values = rounded(np.linspace(-1, 0, 200)).astype(dtype)
    assert resolution(values.astype(np.float64), dtype, TARGETS).max() == pytest.approx(apart, rel=1e-6)


@pytest.mark.parametrize("rounded", [bfloat16, lambda v: np.round(v, 2), lambda v: np.round(v, 3)])
def test_labels_of_a_perfect_critic_that_was_rounded_on_the_way_are_refused(rounded: Any) -> None:
    with pytest.raises(UsageError, match=r"E302.*rounding decides"):
        labelled(rounded(TARGETS).astype(np.float64), n=10)


def test_returns_that_are_round_numbers_themselves_are_not_called_rounded() -> None:
    exact = RETURNS / 1000  # three decimals
    assert resolution(exact, np.float64, exact).max() < 1e-15
