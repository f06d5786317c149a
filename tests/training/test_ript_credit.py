"""What the chunks of a rollout are worth beside those of its group that were still running."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from training_adapters.ript.config import RIPTConfig
from training_adapters.ript.credit import running
from training_adapters.ript.groups import Outcome

THIRD = 1 / 3


def outcomes(rewards: Sequence[float], init_hash: str = "a", *, group: int = 0) -> list[Outcome]:
    return [
        Outcome(task="t", init_hash=init_hash, policy_version=0, identity=(0, 0, group, k), reward=reward)
        for k, reward in enumerate(rewards)
    ]


def test_a_chunk_is_compared_with_what_was_still_running() -> None:
    found = running(outcomes([1, 1, 0, 0]), [1, 2, 3, 3])
    wanted = [[2 * THIRD], [2 * THIRD, 1], [-2 * THIRD, -0.5, 0], [-2 * THIRD, -0.5, 0]]
    for advantage, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(advantage, expected, atol=1e-12)


def test_at_every_place_the_advantages_of_a_group_add_up_to_nothing() -> None:
    random = np.random.default_rng(0)
    rewards, chunks = random.integers(0, 2, 8).astype(float), random.integers(1, 7, 8)
    found = running(outcomes(rewards.tolist()), chunks.tolist())
    for place in range(6):
        assert abs(sum(advantage[place] for advantage in found if len(advantage) > place)) < 1e-12


def test_the_last_one_that_runs_has_nobody_to_be_compared_with() -> None:
    assert running(outcomes([1, 0]), [1, 2])[1].tolist() == [-1, 0]


def test_groups_do_not_see_each_other() -> None:
    both = [*outcomes([1, 0], "a"), *outcomes([1, 1], "b", group=1)]
    assert [advantage.tolist() for advantage in running(both, [1, 1, 1, 2])] == [[1], [-1], [0], [0, 0]]


def test_nothing_to_compare() -> None:
    assert running([], []) == []


@pytest.mark.parametrize("option", [{"credit": "chunk"}, {"schedule": "sine"}])
def test_an_unknown_word_is_refused(option: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="one of"):
        RIPTConfig(**option)  # type: ignore[arg-type]
