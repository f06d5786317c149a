"""Options that contradict each other are refused, and evidence that proves nothing decides nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import vla_data as vd
from tests.rollouts import rollout, save
from vla_data.steps.recipes import ppo_sft
from vla_data.steps.small_actions import moves


@pytest.mark.parametrize("steps", [0, 3])
def test_the_rule_last_counts_nothing(steps: int) -> None:
    with pytest.raises(ValueError, match="does not count steps"):
        ppo_sft(success_rule="last", min_success_steps=steps)


@pytest.mark.parametrize("option", [{"success_rule": "cumulative"}, {"gripper_window": 3}, {"min_length": 2}])
def test_compat_refuses_what_it_would_not_do(option: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"does not use {next(iter(option))}"):
        ppo_sft(compat="rl4vla", **option)  # type: ignore[arg-type]


def test_a_planner_file_of_one_step_is_before_whatever_its_counter_says(tmp_path: Path) -> None:
    """Its counter is aliased to the final count, which for one step looks like "after"."""
    data = rollout(T=1, extra_image=False)
    data["is_image_encode"] = False
    data["info"] = [{"success": False, "elapsed_steps": 1}]
    save(tmp_path, "a.npz", data)
    source = vd.open_source(f"ppo_rollout:{tmp_path}")
    assert source.read(source.episodes()[0]).meta["info_timing"] == "before"


def test_a_length_that_float32_calls_the_threshold_is_not_above_it() -> None:
    action = np.asarray([[0.006, 0.008, 0, 0, 0, 0, 1]], dtype=np.float32)
    assert moves(action, pos=0.01, rot=None).tolist() == [False]
