"""Groups: whose rollouts may be compared, the published numbers, and what a lost or repeated one must not do."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("mujoco")

from training_adapters.ript.groups import KEPT, SINGLE, UNIFORM, Outcome, compare, verdict
from training_adapters.ript.skips import AGAIN, MOST, PLAY, SKIP, Skips

THIRD = 1 / 3


def outcomes(
    rewards: Sequence[float], init_hash: str = "a", *, group: int = 0, version: int = 0, task: str = "t"
) -> list[Outcome]:
    return [
        Outcome(
            task=task, init_hash=init_hash, policy_version=version, identity=(version, 0, group, k), reward=reward
        )
        for k, reward in enumerate(rewards)
    ]


@pytest.mark.parametrize(
    ("rewards", "wanted"),
    [
        ([1, 0, 0, 1], [2 * THIRD, -2 * THIRD, -2 * THIRD, 2 * THIRD]),
        ([1, 0, 0, 0], [1, -THIRD, -THIRD, -THIRD]),
        ([1, 1, 1, 0], [THIRD, THIRD, THIRD, -1]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([2, 0.5, 0, 1], [1.5, -0.5, -7 / 6, 1 / 6]),
    ],
)
def test_the_published_table(rewards: list[float], wanted: list[float]) -> None:
    np.testing.assert_allclose(compare(outcomes(rewards)).advantages, wanted, atol=1e-12)


def test_two_starts_are_two_groups() -> None:
    """OpenPI-RIPT takes the whole batch for one group, which gives 0.571429 for all that succeeded."""
    both = [*outcomes([1, 1, 1, 0], "a"), *outcomes([0, 0, 1, 0], "b", group=1)]
    wanted = [THIRD, THIRD, THIRD, -1, -THIRD, -THIRD, 1, -THIRD]
    found = compare(both)
    np.testing.assert_allclose(found.advantages, wanted, atol=1e-12)
    assert 0.571429 not in np.round(found.advantages, 6)


def test_a_lost_rollout_moves_no_other() -> None:
    """Upstream pads with the last episode and reshapes, which gives 0.666667 to rollouts of both groups."""
    found = compare([*outcomes([1, 1, 0], "a"), *outcomes([0, 0, 0, 1], "b", group=1)], group_size=4)
    np.testing.assert_allclose(found.advantages, [0.5, 0.5, -1, -THIRD, -THIRD, -THIRD, 1], atol=1e-12)
    assert (found.groups, found.incomplete, found.single, found.repeated) == (2, 1, 0, 0)


def test_a_group_of_one_is_not_divided_by_zero() -> None:
    found = compare([*outcomes([1], "a"), *outcomes([0, 1], "b", group=1)])
    assert found.single == 1
    assert found.used.tolist() == [False, True, True]
    np.testing.assert_array_equal(found.advantages, [0, -1, 1])


def test_nothing_is_nothing() -> None:
    found = compare([])
    assert (len(found.advantages), found.groups, found.repeated) == (0, 0, 0)


@pytest.mark.parametrize(
    "other", [{"version": 1}, {"task": "u"}, {"init_hash": "b"}], ids=["version", "task", "init_hash"]
)
def test_who_may_be_compared(other: dict[str, object]) -> None:
    """The same start under another policy, or with another task, is another group."""
    second = outcomes([0, 0], group=1, **other)  # type: ignore[arg-type]
    found = compare([*outcomes([1, 1]), *second])
    assert (found.groups, found.uniform) == (2, 2)


def test_a_rollout_of_another_run_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two rollouts are number .* and differ"):
        compare([*outcomes([1, 0]), *outcomes([0])])


@given(
    rewards=st.lists(st.lists(st.sampled_from([0.0, 1.0, 0.25]), min_size=2, max_size=5), min_size=1, max_size=5),
    data=st.data(),
)
def test_no_rollout_ever_shifts_another(rewards: list[list[float]], data: st.DataObject) -> None:
    """In any order, with any of them lost and any there again, each is compared with its own group's others."""
    whole = [one for at, row in enumerate(rewards) for one in outcomes(row, f"start {at}", group=at)]
    lost = data.draw(st.sets(st.integers(0, len(whole) - 1)))
    kept = [one for at, one in enumerate(whole) if at not in lost]
    again = data.draw(st.lists(st.sampled_from(kept), max_size=4)) if kept else []
    found = compare(data.draw(st.permutations([*kept, *again])))
    assert found.repeated == len(again)
    assert len(found.outcomes) == len(kept)
    for outcome, advantage, used in zip(found.outcomes, found.advantages, found.used, strict=True):
        others = [
            one.reward for one in kept if one.init_hash == outcome.init_hash and one.identity != outcome.identity
        ]
        assert used == bool(others)
        assert advantage == pytest.approx(outcome.reward - np.mean(others) if others else 0.0)


@pytest.mark.parametrize(
    ("rewards", "wanted"), [([], SINGLE), ([1], SINGLE), ([1, 1], UNIFORM), ([0, 0, 0], UNIFORM), ([0, 1], KEPT)]
)
def test_what_becomes_of_a_group(rewards: list[float], wanted: str) -> None:
    """A group without rollouts is not one whose rollouts all succeeded, as ``all([])`` has it."""
    assert verdict(rewards) == wanted


def test_a_start_is_skipped_and_played_again() -> None:
    skips = Skips(solved=3, threshold=2)
    assert skips.decide("a") == PLAY  # upstream: all([]) is True, and a new start counts as solved
    skips.note({"a": [True, True]})
    assert skips.decide("a") == PLAY  # two of three
    skips.note({"a": [False, True, True, True]})
    for _ in range(2):
        assert skips.decide("a") == SKIP
        skips.note({}, skipped=["a"])
    assert skips.decide("a") == AGAIN
    skips.note({"a": [True, False, True]}, again=["a"])
    assert skips.decide("a") == PLAY
    assert skips.history == {"a": [True, False, True]}
    assert skips.skipped == {}


def test_the_last_results_are_remembered() -> None:
    skips = Skips(solved=2, threshold=1)
    skips.note({"a": [False] * MOST})
    skips.note({"a": [True, True]})
    assert len(skips.history["a"]) == MOST
    assert skips.decide("a") == SKIP


def test_labels_are_of_what_rollouts_say() -> None:
    (one,) = outcomes([1])
    assert json.loads(one.label) == ["t", "a", 0]
