"""Returns, advantages, groups, bins and thresholds: worked numbers of published code, and properties.

The worked numbers are of OpenTau, RIPT and a chunk PPO, measured on their code; the properties are compared with
naive loops below.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vla_data.advantages import (
    Episodes,
    Recap,
    ValueBins,
    chunk_gae,
    chunk_rewards,
    discounted_returns,
    gae,
    group_label,
    label,
    monte_carlo,
    n_step,
    percentiles,
    resolve_success,
    rloo,
    task_thresholds,
    threshold,
)
from vla_data.advantages.numbers.bins import SCHEMES
from vla_data.advantages.numbers.scan import reverse_scan
from vla_data.advantages.numbers.thresholds import percentile_lines

ONE = Episodes(np.array([5]))
YES, NO = np.array([True]), np.array([False])


# -- naive references -------------------------------------------------------------------------------


def stretches(episodes: Episodes, stop: NDArray[np.bool_]) -> list[range]:
    """Rows between ends, one frame after another."""
    found, start = [], 0
    for row in range(episodes.total):
        if stop[row] or row in episodes.last:
            found.append(range(start, row + 1))
            start = row + 1
    return found


def after(row: int, truncated: NDArray[np.bool_], bootstrap: NDArray[np.float64]) -> float:
    return float(bootstrap[row]) if truncated[row] else 0.0


def naive_gae(case: dict[str, Any], lam: float, gamma: float) -> NDArray[np.float64]:
    r, v, cut, boot = case["rewards"], case["values"], case["truncated"], case["bootstrap"]
    out = np.zeros(len(r))
    for rows in stretches(case["episodes"], case["terminated"] | cut):
        nexts = [*(v[t] for t in rows[1:]), after(rows[-1], cut, boot)]
        deltas = [r[t] + gamma * following - v[t] for t, following in zip(rows, nexts, strict=True)]
        for i, t in enumerate(rows):
            out[t] = sum((gamma * lam) ** k * delta for k, delta in enumerate(deltas[i:]))
    return out


def naive_n_step(case: dict[str, Any], n: int, gamma: float) -> NDArray[np.float64]:
    r, v, cut, boot = case["rewards"], case["values"], case["truncated"], case["bootstrap"]
    out = np.zeros(len(r))
    for rows in stretches(case["episodes"], case["terminated"] | cut):
        for i, t in enumerate(rows):
            steps = rows[i : i + n]
            following = v[t + n] if i + n < len(rows) else after(rows[-1], cut, boot)
            out[t] = sum(gamma**k * r[s] for k, s in enumerate(steps)) + gamma ** len(steps) * following - v[t]
    return out


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    """A small dataset with rewards, values, and ends in the middle of episodes too."""
    lengths = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    episodes = Episodes(np.array(lengths))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = episodes.total
    terminated = random.random(size) < draw(st.sampled_from([0.0, 0.1]))
    truncated = (random.random(size) < draw(st.sampled_from([0.0, 0.1]))) & ~terminated
    ends = random.random(len(episodes)) < 0.5
    terminated[episodes.last] |= ends & ~truncated[episodes.last]
    truncated[episodes.last] |= ~terminated[episodes.last]
    return {
        "episodes": episodes,
        "rewards": random.normal(size=size),
        "values": random.normal(size=size),
        "terminated": terminated,
        "truncated": truncated,
        "bootstrap": np.where(truncated, random.normal(size=size), np.nan),
    }


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


# -- OpenTau's worked numbers -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("success", "normalizer", "c_neg", "returns", "bins"),
    [
        (True, 1600, -1000, [-4, -3, -2, -1, 0], [199, 199, 199, 199, 200]),
        (False, 1600, -1000, [-1004, -1003, -1002, -1001, -1000], [74, 74, 74, 74, 75]),
        (True, 400, -1000, [-4, -3, -2, -1, 0], [198, 198, 199, 199, 200]),
        (True, 10, -4, [-4, -3, -2, -1, 0], [120, 140, 160, 180, 200]),
        (False, 10, -4, [-8, -7, -6, -5, -4], [40, 60, 80, 100, 120]),  # upstream's floats give 39 for the first
    ],
)
def test_value_targets(success: bool, normalizer: int, c_neg: int, returns: list[int], bins: list[int]) -> None:
    rules = Recap(c_neg=c_neg, normalizer=normalizer)
    found = rules.returns(ONE, np.array([success]))
    assert found.tolist() == returns
    assert ValueBins(scheme="opentau").encode(found, normalizer).tolist() == bins


def test_decoded_centres_of_opentau() -> None:
    centres = ValueBins(scheme="opentau").decode(np.array([199, 200, 74, 75, 0]))
    assert centres.round(6).tolist() == [-0.007463, -0.002488, -0.629353, -0.624378, -0.997512]


def test_a_normalizer_that_is_too_small_is_refused_where_upstream_gives_bin_minus_301() -> None:
    rules = Recap(c_neg=-1000, normalizer=400)
    with pytest.raises(ValueError, match="400 is too small for 1 of 1 episodes: they need 1004 or more"):
        rules.check(ONE, NO, rules.normalizers(ONE, [0]))
    returns = rules.returns(ONE, NO)
    with pytest.raises(ValueError, match="5 returns are not from -normalizer to 0"):
        ValueBins().encode(returns, 400)
    assert ValueBins().encode(returns, 400, clamp=True).tolist() == [0] * 5


@pytest.mark.parametrize(("length", "fits"), [(601, True), (602, False)])
def test_longest_failure_at_1600(length: int, fits: bool) -> None:
    rules, episodes = Recap(), Episodes(np.array([length]))
    if fits:
        rules.check(episodes, NO, rules.normalizers(episodes, [0]))
    else:
        with pytest.raises(ValueError, match="too small"):
            rules.check(episodes, NO, rules.normalizers(episodes, [0]))


@pytest.mark.parametrize("normalizer", [400, 600, 1600])
def test_exact_bins_where_floats_are_one_too_low(normalizer: int) -> None:
    returns = np.arange(-normalizer, 1)
    exact = np.array([(r + normalizer) * 200 // normalizer for r in returns.tolist()])
    floats = np.array([int((r / normalizer + 1) * 200) for r in returns.tolist()])
    assert ValueBins(scheme="opentau").encode(returns, normalizer).tolist() == exact.tolist()
    assert (exact - floats).sum() == np.count_nonzero(exact != floats) == 32


def test_bin_of_minus_1496() -> None:
    assert ValueBins(scheme="opentau").encode(np.array([-1496]), 1600).tolist() == [13]


def test_opentau_bias_of_decoding() -> None:
    """0 at bin 0 to a whole bin at bin 200, as its scheme has it; ``grid`` has none."""
    opentau, grid = ValueBins(scheme="opentau"), ValueBins()
    assert opentau.decode(opentau.encode(np.array([0]), 1600)) * 1600 == pytest.approx(-3.98, abs=0.001)
    assert grid.decode(grid.encode(np.array([0]), 1600)).tolist() == [0.0]


TOY = Recap(n=2, normalizer=10, c_neg=-4)


@pytest.mark.parametrize(
    ("success", "values", "advantages"),
    [
        (True, [-0.40, -0.35, -0.20, -0.10, -0.02], [0, 0.05, -0.02, 0, 0.02]),
        (False, [-0.60, -0.62, -0.60, -0.55, -0.45], [-0.2, -0.13, -0.05, 0.05, 0.05]),
    ],
)
def test_toy_advantages(success: bool, values: list[float], advantages: list[float]) -> None:
    close(TOY.advantages(np.array(values), ONE, np.array([success]), np.array([10])), advantages)
    rewards = np.array([-1.0, -1, -1, -1, 0 if success else -4]) / 10
    close(n_step(rewards, values, ONE, n=2), advantages)


@pytest.mark.parametrize(
    ("success", "values", "advantages"),
    [
        (True, [-0.004, -0.0035, -0.002, -0.001, -0.0002], [0.0015, 0.001625, 0.00075, 0.000375, 0.0002]),
        (False, [-0.63] * 5, [0.0025, 0.003125, 0.00375, 0.004375, 0.005]),
    ],
)
def test_look_ahead_past_the_end(success: bool, values: list[float], advantages: list[float]) -> None:
    for n in (50, None):
        found = Recap(n=n).advantages(np.array(values), ONE, np.array([success]), np.array([1600]))
        close(found, advantages)


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(1, 60), st.sampled_from([400, 1600, 1601]))
def test_a_perfect_critic_is_never_surprised(case: dict[str, Any], n: int, normalizer: int) -> None:
    episodes = case["episodes"]
    success = case["rewards"][episodes.starts] > 0
    scales = np.full(len(episodes), normalizer)
    perfect = Recap().returns(episodes, success) / normalizer
    for horizon in (n, None):
        assert not Recap(n=horizon).advantages(perfect, episodes, success, scales).any()
    semantics = {name: case[name] for name in ("terminated", "truncated", "bootstrap")}
    rest = discounted_returns(case["rewards"], episodes, gamma=0.9, **semantics)
    assert not n_step(case["rewards"], rest, episodes, n=n, gamma=0.9, **semantics).any()
    assert not monte_carlo(case["rewards"], rest, episodes, gamma=0.9, **semantics).any()


@settings(max_examples=60, deadline=None)
@given(cases(), st.integers(1, 60), st.sampled_from([np.float32, np.float64]))
def test_closed_form_is_the_loop(case: dict[str, Any], n: int, dtype: Any) -> None:
    """OpenTau's own arithmetic, frame by frame."""
    episodes, values = case["episodes"], case["values"].astype(dtype)
    success = case["rewards"][episodes.starts] > 0
    found = Recap(n=n).advantages(values, episodes, success, np.full(len(episodes), 1600))
    for start, end, solved in zip(episodes.starts, episodes.ends, success, strict=True):
        for t in range(start, end):
            reward = max(t - end + 1, -n) + (0 if solved or t + n < end else -1000)
            following = float(values[t + n]) if t + n < end else 0.0
            assert found[t] == pytest.approx(reward / 1600 + following - float(values[t]), abs=1e-12)


def test_blocks_of_rows_are_seamless() -> None:
    lengths = np.random.default_rng(0).integers(1, 4000, 200)
    episodes, random = Episodes(lengths), np.random.default_rng(1)
    values, success = random.normal(size=episodes.total), random.random(200) < 0.5
    scales = random.integers(5000, 9000, 200)
    found = Recap(n=50).advantages(values, episodes, success, scales)
    surprise = Recap().returns(episodes, success) / episodes.per_frame(scales) - values
    later = np.arange(episodes.total) + 50
    inside = later < episodes.per_frame(episodes.ends)
    close(found, surprise - np.where(inside, surprise[np.where(inside, later, 0)], 0))


def test_per_task_normalizer_is_the_least_that_fits() -> None:
    episodes = Episodes(np.array([5, 9, 3]))
    rules = Recap(normalizer="per-task", c_neg=-10)
    scales = rules.normalizers(episodes, np.array([4, 4, 7]))
    assert scales.tolist() == [18, 18, 12]
    rules.check(episodes, np.array([False, False, False]), scales)
    with pytest.raises(ValueError, match="too small"):
        rules.check(episodes, np.array([False, False, False]), scales - 1)


def test_unlabelled_episodes_need_a_rule() -> None:
    with pytest.raises(ValueError, match=r"1 of 3 episodes have no success label \(as episode 1\)"):
        resolve_success([True, None, False], "error")
    assert resolve_success([True, None, False], "failure").tolist() == [True, False, False]
    assert resolve_success([True, None, False], "success").tolist() == [True, True, False]


# -- GAE --------------------------------------------------------------------------------------------

CHUNKS = {"rewards": [0, 0.5, 0, 1], "values": [0.2, 0.4, 0.3, 0.5], "lam": 0.95}
FOUR = Episodes(np.array([4]))


def flags(*rows: int) -> NDArray[np.bool_]:
    found = np.zeros(4, dtype=np.bool_)
    found[list(rows)] = True
    return found


@pytest.mark.parametrize(
    ("terminated", "truncated", "bootstrap", "advantages", "returns"),
    [
        ((3,), (), {}, [1.157819, 1.022668, 0.66525, 0.5], [1.357819, 1.422668, 0.96525, 1]),
        ((1, 3), (), {}, [0.29005, 0.1, 0.66525, 0.5], [0.49005, 0.5, 0.96525, 1]),
        ((1,), (3,), {3: 0.6}, [0.29005, 0.1, 1.223907, 1.094], [0.49005, 0.5, 1.523907, 1.594]),
        ((3,), (1,), {1: 0.45}, [0.709043, 0.5455, 0.66525, 0.5], [0.909043, 0.9455, 0.96525, 1]),
    ],
)
def test_chunk_gae(
    terminated: tuple[int, ...],
    truncated: tuple[int, ...],
    bootstrap: dict[int, float],
    advantages: list[float],
    returns: list[float],
) -> None:
    values = np.array([bootstrap.get(row, np.nan) for row in range(4)])
    found = chunk_gae(
        **CHUNKS,  # type: ignore[arg-type]
        episodes=FOUR,
        discounts=0.99,
        terminated=flags(*terminated),
        truncated=flags(*truncated),
        bootstrap=values,
    )
    assert found[0].round(6).tolist() == advantages
    assert found[1].round(6).tolist() == returns


def test_chunk_gae_of_unequal_chunks() -> None:
    lengths = Episodes(np.array([10, 10, 10, 4]))
    steps = np.zeros(34)
    steps[10], steps[30] = 0.5, 1.0  # at the start of their chunks, so that R is what the table has
    rewards, discounts = chunk_rewards(steps, lengths, gamma=0.99, convention="semi_mdp")
    assert rewards.tolist() == [0, 0.5, 0, 1]
    assert discounts.tolist() == [0.99**10] * 3 + [0.99**4]
    found = chunk_gae(rewards, CHUNKS["values"], FOUR, lam=0.95, discounts=discounts, terminated=flags(3))
    assert found[0].round(6).tolist() == [0.910214, 0.871152, 0.581773, 0.5]
    assert found[1].round(6).tolist() == [1.110214, 1.271152, 0.881773, 1]


def test_rewards_of_a_chunk() -> None:
    chunks = Episodes(np.array([3, 1]))
    assert chunk_rewards([1, 1, 1, 5], chunks, gamma=0.5, convention="semi_mdp")[0].tolist() == [1.75, 5]
    rewards, discounts = chunk_rewards([1, 1, 1, 5], chunks, gamma=0.5, convention="per_chunk")
    assert (rewards.tolist(), discounts.tolist()) == ([3, 5], [0.5, 0.5])


def test_a_cut_needs_a_value_and_an_end_a_flag() -> None:
    with pytest.raises(ValueError, match="1 truncated frames have no bootstrap value"):
        gae([0] * 4, [0] * 4, FOUR, lam=1, truncated=flags(3))
    with pytest.raises(ValueError, match="1 episodes are neither terminated nor truncated"):
        gae([0] * 4, [0] * 4, FOUR, lam=1, terminated=flags(2))
    with pytest.raises(ValueError, match="terminated is int64"):
        gae([0] * 4, [0] * 4, FOUR, lam=1, terminated=np.array([0, 0, 0, 1]))


@settings(max_examples=200, deadline=None)
@given(cases(), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_double_loop(case: dict[str, Any], lam: float, gamma: float) -> None:
    advantages, returns = gae(**case, lam=lam, gamma=gamma)
    close(advantages, naive_gae(case, lam, gamma))
    close(returns, advantages + case["values"])


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(1, 50), st.floats(0, 1))
def test_n_step_is_the_double_loop(case: dict[str, Any], n: int, gamma: float) -> None:
    close(n_step(**case, n=n, gamma=gamma), naive_n_step(case, n, gamma))


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(0, 1))
def test_gae_at_its_limits(case: dict[str, Any], gamma: float) -> None:
    rest = discounted_returns(**{k: v for k, v in case.items() if k != "values"}, gamma=gamma)
    close(gae(**case, lam=1, gamma=gamma)[0], rest - case["values"])
    close(gae(**case, lam=0, gamma=gamma)[0], n_step(**case, n=1, gamma=gamma))
    close(gae(**case, lam=0.7, gamma=0)[0], case["rewards"] - case["values"])


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(0, 1), st.floats(0, 1), st.floats(-5, 5))
def test_gae_is_linear_in_rewards(case: dict[str, Any], lam: float, gamma: float, factor: float) -> None:
    base = gae(**case, lam=lam, gamma=gamma)[0]
    zero = gae(**{**case, "rewards": 0 * case["rewards"]}, lam=lam, gamma=gamma)[0]
    scaled = gae(**{**case, "rewards": factor * case["rewards"]}, lam=lam, gamma=gamma)[0]
    close(scaled - zero, factor * (base - zero))


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(0, 1), st.floats(0, 1))
def test_nothing_crosses_an_episode_end(case: dict[str, Any], lam: float, gamma: float) -> None:
    """What happens in the other episodes changes not a bit of the first."""
    first = int(case["episodes"].lengths[0])
    found = gae(**case, lam=lam, gamma=gamma)[0][:first]
    other = {**case, "rewards": case["rewards"].copy(), "values": case["values"].copy()}
    other["rewards"][first:] += 100
    other["values"][first:] -= 50
    np.testing.assert_array_equal(gae(**other, lam=lam, gamma=gamma)[0][:first], found)


@settings(max_examples=60, deadline=None)
@given(cases(), st.floats(0, 1), st.floats(0, 1))
def test_truncation_differs_from_an_end_by_the_discounted_value(
    case: dict[str, Any], lam: float, gamma: float
) -> None:
    last = case["episodes"].last
    ended = {**case, "terminated": case["terminated"].copy(), "truncated": case["truncated"].copy()}
    ended["terminated"][last], ended["truncated"][last] = True, False
    cut = {**case, "terminated": case["terminated"].copy(), "truncated": case["truncated"].copy()}
    cut["terminated"][last], cut["truncated"][last] = False, True
    cut["bootstrap"] = np.where(np.isfinite(case["bootstrap"]), case["bootstrap"], 0.25)
    difference = gae(**cut, lam=lam, gamma=gamma)[0] - gae(**ended, lam=lam, gamma=gamma)[0]
    close(difference[last], gamma * cut["bootstrap"][last])


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 2**32 - 1))
def test_scan_is_the_loop(size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    b, a = random.normal(size=size), random.choice([0.0, 0.5, 0.99, 1.0], size, p=[0.02, 0.18, 0.4, 0.4])
    want, x = np.zeros(size), 0.0
    for t in range(size - 1, -1, -1):
        want[t] = x = b[t] + a[t] * x
    np.testing.assert_allclose(reverse_scan(b, a), want, rtol=1e-12, atol=1e-9)


def test_one_long_episode_is_as_exact_as_many() -> None:
    size = 300_000
    found = discounted_returns(np.ones(size), Episodes(np.array([size])))
    assert found.tolist() == list(range(size, 0, -1))


@pytest.mark.parametrize(("bad", "message"), [([1, np.nan], "rewards is nan at frame 1"), ([1.0], "has shape")])
def test_rewards_are_checked(bad: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discounted_returns(bad, Episodes(np.array([2])))


def test_recap_values_are_checked() -> None:
    with pytest.raises(ValueError, match="values are nan at frame 3"):
        Recap().advantages(np.array([0, 0, 0, np.nan, 0.0]), ONE, YES, np.array([1600]))


def test_episodes() -> None:
    episodes = Episodes.from_numbers(np.array([7, 7, 3, 9, 9, 9]))
    assert episodes.lengths.tolist() == [2, 1, 3]
    assert episodes.frame_index().tolist() == [0, 1, 0, 0, 1, 2]
    assert episodes.steps_left().tolist() == [1, 0, 0, 2, 1, 0]
    assert Episodes.from_starts([0, 2, 3], 6).lengths.tolist() == [2, 1, 3]
    with pytest.raises(ValueError, match="not together"):
        Episodes.from_numbers(np.array([1, 2, 1]))
    with pytest.raises(ValueError, match="no frames"):
        Episodes(np.array([2, 0]))


# -- RLOO -------------------------------------------------------------------------------------------

THIRD = 1 / 3


@pytest.mark.parametrize(
    ("rewards", "advantages"),
    [
        ([1, 0, 0, 1], [2 * THIRD, -2 * THIRD, -2 * THIRD, 2 * THIRD]),
        ([1, 0, 0, 0], [1, -THIRD, -THIRD, -THIRD]),
        ([1, 1, 1, 0], [THIRD, THIRD, THIRD, -1]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([2, 0.5, 0, 1], [1.5, -0.5, -1.1666666666666667, 1 / 6]),
    ],
)
def test_rloo(rewards: list[float], advantages: list[float]) -> None:
    close(rloo(rewards, [0] * 4).advantages, advantages)


def test_rloo_by_group_and_not_by_position() -> None:
    rewards, groups = [1, 1, 1, 0, 0, 0, 1, 0], ["a"] * 4 + ["b"] * 4
    want = [THIRD, THIRD, THIRD, -1, -THIRD, -THIRD, 1, -THIRD]
    close(rloo(rewards, groups).advantages, want)
    close(np.unique(np.abs(rloo(rewards, ["same"] * 8).advantages)), [4 / 7])  # the bug: +-.571429
    order = np.random.default_rng(0).permutation(8)
    mixed = rloo(np.array(rewards)[order], np.array(groups)[order]).advantages
    close(mixed, np.array(want)[order])


def test_rloo_of_a_lost_rollout() -> None:
    found = rloo([1, 1, 0, 0, 0, 0, 1], ["a"] * 3 + ["b"] * 4, group_size=4)
    close(found.advantages, [0.5, 0.5, -1, -THIRD, -THIRD, -THIRD, 1])
    assert (found.groups, found.incomplete) == (2, 1)


def test_rloo_of_one() -> None:
    with pytest.raises(ValueError, match="1 groups have only one rollout"):
        rloo([1, 0, 1], [0, 0, 1])
    dropped, zero = rloo([1, 0, 1], [0, 0, 1], single="drop"), rloo([1, 0, 1], [0, 0, 1], single="zero")
    assert (dropped.used.tolist(), dropped.single) == ([True, True, False], 1)
    assert (zero.used.tolist(), zero.advantages.tolist()) == ([True, True, True], [1, -1, 0])


groups_of = st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 3)), min_size=2, max_size=40).filter(
    lambda rows: all([g for _, g in rows].count(g) > 1 for _, g in rows)
)


@settings(max_examples=200, deadline=None)
@given(groups_of, st.floats(-5, 5), st.floats(0.1, 5), st.randoms(use_true_random=False))
def test_rloo_properties(rows: list[tuple[float, int]], shift: float, scale: float, random: Any) -> None:
    rewards, groups = np.array([r for r, _ in rows]), np.array([g for _, g in rows])
    found = rloo(rewards, groups).advantages
    for g in set(groups.tolist()):
        mine = groups == g
        size = int(mine.sum())
        assert found[mine].sum() == pytest.approx(0, abs=1e-9)
        close(found[mine], size / (size - 1) * (rewards[mine] - rewards[mine].mean()))
        alone = rloo(rewards[mine], groups[mine]).advantages
        np.testing.assert_array_equal(alone, found[mine])  # other groups never change mine
    close(rloo(rewards + shift, groups).advantages, found)
    close(rloo(rewards * scale, groups).advantages, found * scale)
    order = list(range(len(rows)))
    random.shuffle(order)
    close(rloo(rewards[order], groups[order]).advantages, found[order])


def test_equal_rewards_give_exactly_zero() -> None:
    found = rloo([0.1] * 7, [0] * 7)
    assert not found.advantages.any()
    assert found.uniform == 1


def test_group_labels_are_of_everything_that_matters() -> None:
    base: dict[str, Any] = {"task": "a", "initial_state": [1.0, 2.0], "policy": "p", "env": "e", "seed": 1}
    others: list[dict[str, Any]] = [{"task": "b"}, {"initial_state": [1.0, 3.0]}, {"policy": "q"}, {"seed": None}]
    labels = {group_label(**{**base, **change}) for change in ({}, *others, {"env": "f"})}
    assert len(labels) == 6
    assert group_label(**base) == group_label(**{**base, "initial_state": np.array([1, 2])})


# -- bins -------------------------------------------------------------------------------------------

bins_of = st.builds(ValueBins, count=st.integers(2, 301))


@given(bins_of)
def test_bin_of_a_centre_is_its_own(bins: ValueBins) -> None:
    assert bins.encode_values(bins.centres).tolist() == list(range(bins.count))
    whole = np.arange(bins.count) - (bins.count - 1)
    assert bins.encode(whole, bins.count - 1).tolist() == list(range(bins.count))


@settings(max_examples=300, deadline=None)
@given(
    st.builds(ValueBins, count=st.integers(2, 301) | st.integers(2, 1 << 20), scheme=st.sampled_from(SCHEMES)),
    st.integers(1, 4000) | st.integers(1, 10**9),
    st.lists(st.floats(0, 1), max_size=20),
)
def test_a_quotient_has_the_bin_of_its_return(bins: ValueBins, norm: int, shares: list[float]) -> None:
    """Also beside an edge, where floating point alone would decide: -1496 / 1600 is one, of 201 bins."""
    edges = [k * norm // (2 * bins.count - 2) for k in (1, 2, 3, bins.count - 1, 2 * bins.count - 3)]
    some = [round(share * norm) for share in shares] + [e + d for e in edges for d in (-1, 0, 1)]
    r = -np.clip(np.array([*some, 0, norm]), 0, norm)
    np.testing.assert_array_equal(bins.encode_values(r / norm), bins.encode(r, norm))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_quotient_of_a_usual_normalizer_has_the_bin_of_its_return(scheme: Any) -> None:
    bins, r = ValueBins(scheme=scheme), np.arange(-1600, 1)
    np.testing.assert_array_equal(bins.encode_values(r / 1600), bins.encode(r, 1600))


@settings(max_examples=200, deadline=None)
@given(bins_of, st.integers(1, 10**9), st.lists(st.integers(-(10**9), 0), min_size=1, max_size=50))
def test_bins_are_monotone_and_within_half_a_bin(bins: ValueBins, norm: int, returns: list[int]) -> None:
    r = np.sort(np.maximum(returns, -norm))
    found = bins.encode(r, norm)
    assert (np.diff(found) >= 0).all()
    assert (np.abs(bins.decode(found) - r / norm) <= bins.width / 2 * (1 + 1e-9)).all()
    clamped = bins.encode(np.array([max(-norm - 7, -(10**9)), 3]), norm, clamp=True)
    assert clamped.tolist() == [0, bins.count - 1]


values_of = st.lists(st.floats(-1.5, 0.5), min_size=1, max_size=20).map(np.array)


@settings(max_examples=200, deadline=None)
@given(bins_of, values_of)
def test_two_hot_has_the_value_as_its_mean(bins: ValueBins, values: NDArray[np.float64]) -> None:
    weights = bins.two_hot(values)
    assert (weights >= 0).all()
    assert ((weights > 0).sum(axis=-1) <= 2).all()
    close(weights.sum(axis=-1), 1)
    close(bins.expect(weights), np.clip(values, -1, 0))


@settings(max_examples=50, deadline=None)
@given(values_of, st.sampled_from(["grid", "opentau"]))
def test_hl_gauss_has_the_value_as_its_mean_away_from_the_ends(values: NDArray[np.float64], scheme: Any) -> None:
    bins = ValueBins(count=51, scheme=scheme)
    weights = bins.hl_gauss(values)
    assert (weights >= 0).all()
    close(weights.sum(axis=-1), 1)
    inner = (values > -0.85) & (values < -0.15)
    np.testing.assert_allclose(bins.expect(weights)[inner], values[inner], rtol=0, atol=1e-4)


def test_hl_gauss_is_narrow_in_the_limit() -> None:
    bins = ValueBins(count=11)
    assert bins.hl_gauss(np.array([-0.3]), sigma=1e-3).round(9).tolist() == [[0] * 7 + [1] + [0] * 3]


def test_whole_numbers_only() -> None:
    with pytest.raises(ValueError, match="returns are float64, not whole numbers"):
        ValueBins().encode(np.array([-1.5]), 10)
    with pytest.raises(ValueError, match="bins are not integers from 0 to 200"):
        ValueBins().decode(np.array([201]))


# -- thresholds -------------------------------------------------------------------------------------


def test_percentile_table_is_the_one_opentau_prints() -> None:
    lines = percentile_lines(percentiles(np.arange(10.0)))
    assert lines[0] == "Advantage percentiles for deciding epsilon threshold:"
    assert lines[1] == "  000th percentile: 0.000000"
    assert lines[15] == "  070th percentile: 6.300000"
    assert len(lines) == 22


@pytest.mark.parametrize("op", [">", ">="])
def test_epsilon_for_a_share(op: Any) -> None:
    found = threshold(np.arange(10.0), share=0.3, op=op)
    assert found.epsilon == pytest.approx(6.3)
    assert (found.positive, found.ties) == (3, 0)


def test_ties_are_told() -> None:
    at, above = (threshold(np.ones(8), share=0.3, op=op) for op in (">=", ">"))
    assert (at.positive, above.positive, at.ties, above.ties) == (8, 0, 8, 8)
    for found in (at, above):
        facts = found.to_json()
        assert (facts["share_at_or_above"], facts["share_above"], facts["wanted_share"]) == (1.0, 0.0, 0.3)


def test_thresholds_per_task_and_forced_positives() -> None:
    advantages = np.array([0.0, 1, 2, 3, 100, 200, 300, 400])
    tasks = np.array([0] * 4 + [5] * 4)
    bounds = task_thresholds(advantages, tasks, share=0.5)
    assert {task: bound.epsilon for task, bound in bounds.items()} == {0: 1.5, 5: 250}
    assert label(advantages, bounds, tasks=tasks).tolist() == [False, False, True, True] * 2
    forced = np.array([True] + [False] * 7)
    assert label(advantages, bounds, tasks=tasks, forced=forced).tolist()[:2] == [True, False]
    with pytest.raises(ValueError, match="task 4 has no threshold"):
        label(advantages, bounds, tasks=tasks + 4)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=200), st.floats(0, 1), st.sampled_from([">", ">="]))
def test_a_share_is_met_up_to_ties_and_one_frame(numbers: list[float], share: float, op: Any) -> None:
    found = threshold(numbers, share=share, op=op)
    facts = found.to_json()
    assert int(label(numbers, found).sum()) == found.positive
    assert facts["share_above"] - 1 / len(numbers) <= share + 1e-9
    assert facts["share_at_or_above"] + 1 / len(numbers) >= share - 1e-9


def test_a_threshold_has_one_origin() -> None:
    with pytest.raises(ValueError, match="give share or epsilon"):
        threshold([1.0], share=0.3, epsilon=0.1)
    with pytest.raises(ValueError, match="no advantages"):
        threshold([], share=0.3)


def test_the_numbers_need_no_files() -> None:
    """Importing the arithmetic loads NumPy alone; pyarrow comes with the first file."""
    script = "import sys, vla_data.advantages; print({'pyarrow', 'torch', 'jax', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
