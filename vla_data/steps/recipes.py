"""Lists of steps that belong together, under the names that commands and builders use."""

from __future__ import annotations

from typing import get_args

from vla_data import options as checks
from vla_data.core.curate import Step
from vla_data.steps import CutAfterSuccess, Length, RequireSuccess, Rl4vlaCompat, SmallActions, SuccessRule
from vla_data.steps.success import DEFAULT


def ppo_sft(
    *,
    min_success_steps: int = DEFAULT,
    success_rule: SuccessRule = "consecutive",
    pos_thresh: float | None = 0.01,
    rot_thresh: float | None = 0.06,
    initial_gripper: float | None = 1.0,
    gripper_hysteresis: tuple[float, float] | None = None,
    gripper_window: int = 0,
    min_length: int = 1,
    max_length: int | None = None,
    compat: str | None = None,
) -> tuple[Step, ...]:
    """PPO rollouts to supervised data: keep solved episodes up to their success, without idle steps.

    Args:
        min_success_steps: successes that make an episode solved; 0 keeps all episodes, uncut. The default gives
            way to the number that a recording says, see `vla_data.steps.success.RECORDED`.
        success_rule: see `vla_data.steps.success_end`.
        pos_thresh: metres a step; None switches the test off. See `vla_data.steps.SmallActions`.
        rot_thresh: radians a step; None switches the test off.
        initial_gripper: gripper command in force before step 0; None: unknown.
        gripper_hysteresis: ``(low, high)`` for continuous grippers.
        gripper_window: steps kept around a gripper event.
        min_length: fewest steps that an episode may have in the end.
        max_length: most steps, or None.
        compat: "rl4vla": what RL4VLA's builder does, bugs included; the options after ``rot_thresh`` have no
            part in it.
    """
    checks.whole("min_success_steps", min_success_steps, low=0)
    checks.one_of("success_rule", success_rule, get_args(SuccessRule))
    if success_rule == "last" and min_success_steps != DEFAULT:
        raise ValueError("success_rule last does not count steps; leave out min_success_steps")
    if compat == "rl4vla":
        others = {
            "success_rule": (success_rule, "consecutive"),
            "initial_gripper": (initial_gripper, 1.0),
            "gripper_hysteresis": (gripper_hysteresis, None),
            "gripper_window": (gripper_window, 0),
            "min_length": (min_length, 1),
            "max_length": (max_length, None),
        }
        idle = [name for name, (value, default) in others.items() if value != default]
        if idle:
            raise ValueError(f"compat rl4vla does not use {', '.join(idle)}; leave it out")
        return (Rl4vlaCompat(pos=pos_thresh, rot=rot_thresh, min_steps=min_success_steps),)
    if compat is not None:
        checks.one_of("compat", compat, ("rl4vla",))
    success: tuple[Step, ...] = ()
    if min_success_steps:
        enough = max(min_success_steps, 1)
        success = (
            RequireSuccess(min_steps=enough, rule=success_rule),
            CutAfterSuccess(min_steps=enough, rule=success_rule),
        )
    small = SmallActions(
        pos=pos_thresh,
        rot=rot_thresh,
        initial_gripper=initial_gripper,
        hysteresis=gripper_hysteresis,
        window=gripper_window,
    )
    return (*success, small, Length(min_steps=min_length, max_steps=max_length))
