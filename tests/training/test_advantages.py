"""Chunk advantages: the worked table, every kind of end, and each mistake of the published program."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from training_adapters.ppo.advantages import chunk_advantages, chunk_reward, normalised

NAN = float("nan")
REWARD, VALUE, GAMMA, LAM = [0.0, 0.5, 0.0, 1.0], [0.2, 0.4, 0.3, 0.5], 0.99, 0.95


def advantages(
    terminated: list[int],
    truncated: list[int] | None = None,
    final: dict[int, float] | None = None,
    **options: Any,
) -> tuple[list[float], list[float]]:
    found = chunk_advantages(
        reward=REWARD,
        value=VALUE,
        discount=options.get("discount", [GAMMA] * 4),
        terminated=[t in terminated for t in range(4)],
        truncated=[t in (truncated or []) for t in range(4)],
        final_value=[(final or {}).get(t, NAN) for t in range(4)],
        lam=LAM,
    )
    return found.advantage.round(6).tolist(), found.value_target.round(6).tolist()


TABLE = {
    "one end": (([3],), {}, [1.157819, 1.022668, 0.66525, 0.5], [1.357819, 1.422668, 0.96525, 1.0]),
    "two ends": (([1, 3],), {}, [0.29005, 0.1, 0.66525, 0.5], [0.49005, 0.5, 0.96525, 1.0]),
    "a cut buffer": (([1], [], {3: 0.6}), {}, [0.29005, 0.1, 1.223907, 1.094], [0.49005, 0.5, 1.523907, 1.594]),
    "a time limit": (
        ([3], [1], {1: 0.45}),
        {},
        [0.709043, 0.5455, 0.66525, 0.5],
        [0.909043, 0.9455, 0.96525, 1.0],
    ),
    "chunks of unlike lengths": (
        ([3],),
        {"discount": [GAMMA**k for k in (10, 10, 10, 4)]},
        [0.910214, 0.871152, 0.581773, 0.5],
        [1.110214, 1.271152, 0.881773, 1.0],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_worked_table(case: str) -> None:
    arguments, options, wanted, targets = TABLE[case]
    assert advantages(*arguments, **options) == (wanted, targets)


def test_normalised_row_of_the_table() -> None:
    found, _ = advantages([3])
    np.testing.assert_allclose(normalised(found), [1.213717, 0.703315, -0.646481, -1.270551], atol=2e-6)


def test_targets_are_not_normalised() -> None:
    assert advantages([3])[1] == [1.357819, 1.422668, 0.96525, 1.0]


def test_an_end_keeps_advantages_apart() -> None:
    """Upstream has no mask of ends: what came after a reset reached back over it."""
    before = advantages([1, 3])[0][:2]
    rich = chunk_advantages(
        reward=[0.0, 0.5, 100.0, 100.0],
        value=VALUE,
        discount=[GAMMA] * 4,
        terminated=[False, True, False, True],
        truncated=[False] * 4,
        final_value=[NAN] * 4,
        lam=LAM,
    )
    assert rich.advantage[:2].round(6).tolist() == before


@pytest.mark.parametrize(("truncated", "terminated"), [([1], [3]), ([], []), ([3], [])])
def test_a_cut_without_a_value_of_what_comes_is_refused(truncated: list[int], terminated: list[int]) -> None:
    """Upstream takes 0, as if every time limit and every end of the buffer were an end of the task."""
    with pytest.raises(ValueError, match="needs a bootstrap value"):
        advantages(terminated, truncated)


def test_terminated_and_truncated_at_once_is_refused() -> None:
    with pytest.raises(ValueError, match="both terminated and truncated"):
        advantages([3], [3], {3: 0.0})


def test_unlike_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        chunk_advantages(
            reward=[0.0],
            value=[0.0, 0.0],
            discount=[0.9],
            terminated=[True],
            truncated=[False],
            final_value=[NAN],
            lam=0.95,
        )


def test_reward_of_a_chunk_is_discounted_by_step() -> None:
    reward, after = chunk_reward([1.0, 0.0, 2.0], 0.5)
    assert (reward, after) == (1.5, 0.125)


def test_reward_of_a_chunk_as_upstream_has_it() -> None:
    assert chunk_reward([1.0, 0.0, 2.0], 0.5, discount="chunk") == (3.0, 0.5)


def returns(rewards: list[float], lengths: list[int], gamma: float) -> list[float]:
    """Of each chunk's beginning, by hand: the discounted sum of all step rewards that follow."""
    firsts = np.cumsum([0, *lengths])[:-1]
    return [float(sum(gamma**j * r for j, r in enumerate(rewards[first:]))) for first in firsts]


@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    seed=st.integers(0, 999),
    gamma=st.floats(0.5, 1.0),
)
@settings(max_examples=50, deadline=None)
def test_without_bias_the_target_is_the_discounted_return_of_the_steps(
    lengths: list[int], seed: int, gamma: float
) -> None:
    """With lambda 1 the chunks' lengths drop out, which one gamma a chunk does not give."""
    rewards = np.random.default_rng(seed).normal(size=sum(lengths)).tolist()
    cuts = np.cumsum([0, *lengths])
    pairs = [chunk_reward(rewards[a:b], gamma) for a, b in itertools.pairwise(cuts)]
    count = len(lengths)
    found = chunk_advantages(
        reward=[r for r, _ in pairs],
        value=np.random.default_rng(seed + 1).normal(size=count),
        discount=[g for _, g in pairs],
        terminated=[False] * (count - 1) + [True],
        truncated=[False] * count,
        final_value=[NAN] * count,
        lam=1.0,
    )
    np.testing.assert_allclose(found.value_target, returns(rewards, lengths, gamma), rtol=1e-9, atol=1e-9)


def test_lanes_do_not_know_of_each_other() -> None:
    one = advantages([1, 3])[0]
    both = chunk_advantages(
        reward=np.array([REWARD, [9.0] * 4]).T,
        value=np.array([VALUE, [1.0] * 4]).T,
        discount=np.full((4, 2), GAMMA),
        terminated=np.array([[False, False], [True, False], [False, True], [True, True]]),
        truncated=np.zeros((4, 2), dtype=bool),
        final_value=np.full((4, 2), NAN),
        lam=LAM,
    )
    assert both.advantage[:, 0].round(6).tolist() == one
