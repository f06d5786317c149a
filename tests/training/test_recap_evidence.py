"""What a critic's values are worth, by hand and by what must come out."""

from __future__ import annotations

import numpy as np
import pytest

from training_adapters.recap.evidence import Held, Ranked, evidence, lines, trusted, weakness
from vla_data.errors import RefusedError


def held(seed: int, noise: float | None, episodes: int = 120) -> Held:
    """Episodes of which half are solved; values are the returns with noise, or say nothing (None)."""
    random = np.random.default_rng(seed)
    lengths = random.integers(5, 30, episodes)
    episode = np.repeat(np.arange(episodes), lengths)
    solved = (np.arange(episodes) % 2 == 0)[episode]
    frame = np.concatenate([np.arange(length) for length in lengths])
    target = -(lengths[episode] - 1 - frame) / 96 - np.where(solved, 0.0, 0.5)
    value = random.random(len(episode)) - 1 if noise is None else target + noise * random.normal(size=len(episode))
    return Held(value, target, solved, episode, episode % 3, frame)


def by_pairs(value: np.ndarray, solved: np.ndarray, strata: np.ndarray, weight: np.ndarray) -> float:
    above = pairs = 0.0
    for i in np.flatnonzero(solved):
        for j in np.flatnonzero(~solved):
            if strata[i] == strata[j]:
                both = weight[i] * weight[j]
                pairs += both
                above += both * (1.0 if value[i] > value[j] else 0.5 if value[i] == value[j] else 0.0)
    return above / pairs


@pytest.mark.parametrize("seed", range(3))
def test_areas_are_those_of_counting_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    value, solved = random.integers(0, 6, 50) / 6, random.random(50) < 0.4
    strata, weight = random.integers(0, 4, 50), random.integers(0, 3, 50).astype(float)
    ones, one = np.ones(50), np.zeros(50, dtype=int)
    assert Ranked(value, solved, strata).area(weight) == pytest.approx(by_pairs(value, solved, strata, weight))
    assert Ranked(value, solved).area() == pytest.approx(by_pairs(value, solved, one, ones))


def test_a_critic_of_noise_is_refused() -> None:
    found = evidence(held(0, None), resamples=100)
    low, high = found["auc"]["interval"]
    assert low < 0.5 < high
    with pytest.raises(RefusedError, match=r"E402.*auc is 0\.\d+ \(0\.\d+ to 0\.\d+\), which includes chance"):
        trusted(found, accept=False)
    assert "includes chance" in str(trusted(found, accept=True))


def test_a_critic_that_sees_outcomes_is_trusted() -> None:
    found = evidence(held(1, 0.1), resamples=100)
    assert trusted(found, accept=False) is None
    low, high = found["auc_alike"]["interval"]
    assert 0.9 < low < found["auc_alike"]["value"] < high <= 1
    assert found["rank_correlation"]["value"] > 0.8
    assert found["episodes"] == 120
    assert found["solved"] == 60
    assert lines(found)[0].startswith("critic on 120 episodes that it has not seen (60 solved")


def test_a_clock_is_above_chance_and_is_refused() -> None:
    """Failures last longer, so that late frames are of failures; what else a critic sees is asked for."""
    random = np.random.default_rng(2)
    lengths = np.where(np.arange(200) % 2 == 0, random.integers(5, 20, 200), 48)
    episode = np.repeat(np.arange(200), lengths)
    frame = np.concatenate([np.arange(length) for length in lengths])
    solved = (np.arange(200) % 2 == 0)[episode]
    target = -(lengths[episode] - 1 - frame) / 96 - np.where(solved, 0.0, 0.5)
    found = evidence(Held(-frame / 48.0, target, solved, episode, episode % 3, frame), resamples=100)
    assert found["auc"]["interval"][0] > 0.6
    assert found["auc_alike"]["value"] == 0.5
    assert "auc_alike" in str(weakness(found))


def test_without_failures_nothing_is_known() -> None:
    whole = held(3, 0.1)
    every = Held(whole.value, whole.target, whole.solved | True, whole.episode, whole.task, whole.frame)
    found = evidence(every, resamples=10)
    assert found["auc"] is None
    assert weakness(found) == "120 of 120 episodes were solved: no two ended differently"
    assert weakness(None) == "nothing is known of the critic on episodes that it has not seen"
    assert "not defined" in "\n".join(lines(found))


def test_a_calibrated_critic_has_no_error() -> None:
    perfect = held(4, 0.0)
    found = evidence(perfect, resamples=10)
    assert found["calibration_error"]["value"] < 1e-12
    moved = Held(perfect.value - 0.1, perfect.target, perfect.solved, perfect.episode, perfect.task, perfect.frame)
    assert evidence(moved, resamples=10)["calibration_error"]["value"] == pytest.approx(0.1)
