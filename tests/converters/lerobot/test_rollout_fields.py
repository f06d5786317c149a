"""`next_fields`: what rollouts say of rewards and ends, under the names of LeRobot and RLDS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.rollouts.fields import next_fields, read_info
from vla_data.errors import DataError

STEPS = 3


def fields(timing: str = "after", **keys: Any) -> dict[str, list[Any]]:
    infos = [{"success": False} | {key: values[t] for key, values in keys.items()} for t in range(STEPS)]
    found = next_fields(read_info(infos, STEPS), timing)
    assert all(len(array) == STEPS for array in found.values())
    return {name: array.tolist() for name, array in found.items()}


def test_reward_is_float32() -> None:
    info = read_info([{"success": False, "reward": r} for r in (0, 0.1, 1)], STEPS)
    reward = next_fields(info, "after")["next.reward"]
    assert reward.dtype == np.float32
    assert reward.tolist() == [0.0, float(np.float32(0.1)), 1.0]


def test_ends_are_told_apart() -> None:
    assert fields(terminated=[0, 0, 1], truncated=[False, True, False]) == {
        "next.terminated": [False, False, True],
        "next.truncated": [False, True, False],
        "next.done": [False, True, True],
    }


def test_done_that_is_recorded_is_kept() -> None:
    assert fields(done=[True, False, False], terminated=[0, 0, 1]) == {
        "next.done": [True, False, False],
        "next.terminated": [False, False, True],
    }


def test_one_of_the_ends_is_enough() -> None:
    assert fields(truncated=[0, 0, 1])["next.done"] == [False, False, True]


@pytest.mark.parametrize("values", [[0, 1, 2], [0.5, 0, 0], [0, float("nan"), 0], ["no", "no", "yes"]])
def test_what_is_no_truth_value_is_not_taken(values: list[Any]) -> None:
    assert fields(terminated=values) == {}


def test_infos_from_before_the_action_say_nothing_of_the_last_step() -> None:
    assert fields("before", reward=[0, 0, 1], terminated=[0, 0, 1]) == {}


def test_real_infos_without_rewards_give_nothing() -> None:
    assert fields(elapsed_steps=[1, 2, 3], consecutive_grasp=[False, True, True]) == {}


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), 1e39])
def test_reward_that_is_no_number_is_refused(reward: float) -> None:
    with pytest.raises(DataError, match=r"info\[1\]\.reward is") as caught:
        fields(reward=[0.0, reward, 1.0])
    assert caught.value.code == "E201"
