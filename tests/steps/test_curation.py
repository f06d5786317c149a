"""Each rule of the curation steps, on the worked numbers of the RL4VLA specification and others as small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.rollouts import CAMERA, MOVE, STILL, episode
from vla_data.core import Episode, EpisodeMeta
from vla_data.core.curate import Curated, curate
from vla_data.core.ledger import Span
from vla_data.steps import (
    CutAfterSuccess,
    Length,
    RequireSuccess,
    Rl4vlaCompat,
    SmallActions,
    gripper_events,
    success_end,
)
from vla_data.steps.recipes import ppo_sft

CLOSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0)
"""No motion; a toggle where the gripper was open."""

MASK_TABLE = [
    [0, 0, 0, 0, 0, 0, +1],
    [0.01, 0, 0, 0, 0, 0, +1],
    [0.008, 0.008, 0, 0, 0, 0, +1],
    [0, 0, 0, 0.06, 0, 0, +1],
    [0, 0, 0, 0, 0, 0, -1],
    [0, 0, 0, 0, 0, 0, -1],
]


def flags(text: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.array([flag == "1" for flag in text.split()], dtype=np.bool_)


def kept(step: SmallActions, actions: Any, dtype: type = np.float32) -> list[int]:
    return step.keep(np.array(actions, dtype)).astype(int).tolist()


def gripper_line(*commands: float) -> list[list[float]]:
    return [[0.0] * 6 + [command] for command in commands]


def indices(result: Curated) -> list[int]:
    assert result.episode is not None
    return result.episode.index.tolist()


# The mask table


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [0, 0, 1, 0, 1, 0], id="both thresholds"),
        pytest.param({"pos": None}, [0, 0, 0, 0, 1, 0], id="no position test"),
        pytest.param({"rot": None}, [0, 0, 1, 0, 1, 0], id="no rotation test"),
        pytest.param({"pos": None, "rot": None}, [1, 1, 1, 1, 1, 1], id="neither test"),
    ],
)
def test_mask_table(options: dict[str, None], expected: list[int], dtype: type) -> None:
    assert expected == kept(SmallActions(**options), MASK_TABLE, dtype)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, [2, 4], id="both thresholds"),
        pytest.param({"pos": None}, [4], id="no position test"),
        pytest.param({"rot": None}, [2, 4], id="no rotation test"),
        pytest.param({"pos": None, "rot": None}, [0, 1, 2, 3, 4, 5], id="neither test"),
    ],
)
def test_mask_table_in_compat_mode(options: dict[str, None], expected: list[int]) -> None:
    assert expected == Rl4vlaCompat(**options).apply(episode(MASK_TABLE, [0] * 6)).index.tolist()


def test_mask_table_without_a_gripper_that_switches() -> None:
    always_open = [[*row[:6], 1] for row in MASK_TABLE]

    assert [0, 0, 1, 0, 0, 0] == kept(SmallActions(), always_open)


# Thresholds


@pytest.mark.parametrize("column", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("limit", [0.01, 0.06, 0.07, 0.1, 0.3])
def test_a_step_of_exactly_the_threshold_is_dropped(limit: float, column: int, dtype: type) -> None:
    action = np.array([STILL], dtype)
    action[0, column] = limit

    assert [0] == kept(SmallActions(pos=limit, rot=limit), action, dtype)


@pytest.mark.parametrize("column", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("limit", [0.01, 0.06, 0.07, 0.1, 0.3])
def test_the_next_float_above_the_threshold_is_kept(limit: float, column: int) -> None:
    action = np.array([STILL], np.float32)
    action[0, column] = np.nextafter(np.float32(limit), np.float32(1))

    assert [1] == kept(SmallActions(pos=limit, rot=limit), action)


def test_a_norm_is_rounded_to_float32_before_it_is_compared() -> None:
    """In double precision, that of float32 0.3 and 0.4 is 0.500000012, a fifth of a float32 step above 0.5."""
    assert [0] == kept(SmallActions(pos=0.5), [[0.3, 0.4, 0, 0, 0, 0, 1]])


def test_a_threshold_of_zero_keeps_every_motion() -> None:
    assert [0, 1] == kept(SmallActions(pos=0.0, rot=0.0), [STILL, [1e-6, 0, 0, 0, 0, 0, 1]])


def test_the_norm_counts_and_not_the_largest_component() -> None:
    assert [1] == kept(SmallActions(), [[0.006, 0.006, 0.006, 0, 0, 0, 1]])


def test_small_translation_and_small_rotation_do_not_add_up() -> None:
    assert [0] == kept(SmallActions(), [[0.0099, 0, 0, 0.0599, 0, 0, 1]])


def test_dropped_steps_take_their_displacement_with_them() -> None:
    creep = [[0.009, 0, 0, 0, 0, 0, 1]] * 5 + [[0.02, 0, 0, 0, 0, 0, 1]]

    after = SmallActions().apply(episode(creep, [0] * 6))

    assert [pytest.approx(0.02)] == after.arrays["action"][:, 0].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 3, 6])
def test_no_comparison_decides_about_an_action_that_is_not_finite(value: float, column: int) -> None:
    action = np.array([MOVE, MOVE], np.float32)
    action[1, column] = value

    with pytest.raises(ValueError, match="not finite"):
        SmallActions().keep(action)


@pytest.mark.parametrize("options", [{"pos": -0.01}, {"rot": -0.01}, {"pos": np.nan}, {"window": -1}])
def test_options_without_a_meaning_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        SmallActions(**options)


def test_pruning_an_empty_episode_leaves_it_empty() -> None:
    assert [] == SmallActions().apply(episode([], [])).index.tolist()


# The gripper


def test_a_toggle_is_kept_whose_step_before_was_dropped() -> None:
    assert [0, 0, 1, 1] == kept(SmallActions(), gripper_line(1, 1, -1, 1))


def test_a_close_command_at_step_0_is_a_toggle_of_an_open_gripper() -> None:
    assert [1, 0] == kept(SmallActions(initial_gripper=1.0), gripper_line(-1, -1))


def test_an_open_command_at_step_0_is_no_toggle_of_an_open_gripper() -> None:
    assert [0, 1] == kept(SmallActions(initial_gripper=1.0), gripper_line(1, -1))


def test_a_close_command_at_step_0_is_no_toggle_of_a_closed_gripper() -> None:
    assert [0, 1] == kept(SmallActions(initial_gripper=-1.0), gripper_line(-1, 1))


def test_step_0_is_never_a_toggle_where_the_initial_gripper_is_unknown() -> None:
    assert [0, 0, 1] == kept(SmallActions(initial_gripper=None), gripper_line(-1, -1, 1))


def test_step_0_is_never_a_toggle_in_compat_mode() -> None:
    assert [2] == Rl4vlaCompat().apply(episode(gripper_line(-1, -1, 1), [0] * 3)).index.tolist()


def test_commands_are_compared_exactly_without_hysteresis() -> None:
    commands = np.array([0.5, 0.5, 0.5000001], np.float32)

    assert [False, False, True] == gripper_events(commands, initial=0.5).tolist()


def test_an_initial_gripper_that_float32_rounds_is_no_toggle() -> None:
    assert [False] == gripper_events(np.array([0.1], np.float32), initial=0.1).tolist()


def test_between_the_limits_of_a_hysteresis_the_last_state_holds() -> None:
    commands = np.array([0.9, 0.5, 0.21, 0.1, 0.5, 0.79, 0.9], np.float32)

    events = gripper_events(commands, initial=1.0, hysteresis=(0.2, 0.8))

    assert [0, 0, 0, 1, 0, 0, 1] == events.astype(int).tolist()


def test_the_limits_of_a_hysteresis_are_states() -> None:
    commands = np.array([0.25, 0.75], np.float32)

    assert [True, True] == gripper_events(commands, initial=1.0, hysteresis=(0.25, 0.75)).tolist()


def test_the_first_definite_command_after_an_indefinite_start_is_no_toggle() -> None:
    commands = np.array([0.5, 0.1, 0.9], np.float32)

    assert [0, 0, 1] == gripper_events(commands, initial=None, hysteresis=(0.2, 0.8)).astype(int).tolist()


def test_a_gripper_that_is_never_definite_has_no_toggle() -> None:
    commands = np.array([0.5, 0.4, 0.6], np.float32)

    assert [0, 0, 0] == gripper_events(commands, initial=None, hysteresis=(0.2, 0.8)).astype(int).tolist()


@pytest.mark.parametrize("limits", [(0.8, 0.2), (0.5, 0.5)])
def test_a_hysteresis_without_a_gap_is_refused(limits: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        gripper_events(np.array([0.5], np.float32), initial=1.0, hysteresis=limits)


def test_an_episode_without_steps_has_no_toggle() -> None:
    assert [] == gripper_events(np.zeros(0, np.float32), initial=1.0).tolist()


def test_noise_on_a_continuous_gripper_is_pruned_with_hysteresis() -> None:
    noisy = gripper_line(0.98, 0.97, 0.99, 0.02, 0.01)

    assert [0, 0, 0, 1, 0] == kept(SmallActions(hysteresis=(0.2, 0.8)), noisy)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (0, [0, 0, 0, 1, 0, 0, 0]),
        (1, [0, 0, 1, 1, 1, 0, 0]),
        (2, [0, 1, 1, 1, 1, 1, 0]),
        (9, [1, 1, 1, 1, 1, 1, 1]),
    ],
)
def test_a_window_keeps_the_steps_around_a_toggle(window: int, expected: list[int]) -> None:
    assert expected == kept(SmallActions(window=window), gripper_line(1, 1, 1, -1, -1, -1, -1))


def test_a_window_ends_at_the_ends_of_the_episode() -> None:
    assert [1, 1, 0, 1, 1] == kept(SmallActions(window=1), gripper_line(-1, -1, -1, -1, 1))


def test_a_window_keeps_nothing_around_a_motion() -> None:
    assert [0, 1, 0] == kept(SmallActions(window=1), [STILL, MOVE, STILL])


# Success


@pytest.mark.parametrize(
    ("rule", "min_steps", "expected"),
    [
        ("consecutive", 6, 11),
        ("consecutive", 3, 4),
        ("consecutive", 7, 12),
        ("consecutive", 8, None),
        ("cumulative", 6, 8),
        ("cumulative", 10, 12),
        ("cumulative", 11, None),
        ("last", 6, None),
    ],
)
def test_success_example_with_a_gap(rule: Any, min_steps: int, expected: int | None) -> None:
    success = flags("0 1 1 1 0 1 1 1 1 1 1 1 0")

    assert expected == success_end(success, min_steps=min_steps, rule=rule)


@pytest.mark.parametrize(("rule", "expected"), [("consecutive", None), ("cumulative", 7), ("last", 7)])
def test_success_example_of_six_that_are_not_in_a_row(rule: Any, expected: int | None) -> None:
    assert expected == success_end(flags("1 1 1 0 1 1 1"), min_steps=6, rule=rule)


def test_the_first_streak_counts() -> None:
    assert 3 == success_end(flags("0 1 1 0 1 1 1"), min_steps=2, rule="consecutive")


def test_a_streak_may_start_at_step_0() -> None:
    assert 2 == success_end(flags("1 1 0"), min_steps=2, rule="consecutive")


def test_a_streak_may_end_at_the_last_step() -> None:
    assert 4 == success_end(flags("0 0 1 1"), min_steps=2, rule="consecutive")


def test_the_step_that_completes_the_success_is_included() -> None:
    after = CutAfterSuccess(min_steps=2).apply(episode([MOVE] * 5, [0, 1, 1, 1, 1]))

    assert [0, 1, 2] == after.index.tolist()


def test_an_episode_without_success_is_not_cut() -> None:
    after = CutAfterSuccess(min_steps=6).apply(episode([MOVE] * 5, [1, 1, 0, 1, 1]))

    assert [0, 1, 2, 3, 4] == after.index.tolist()


def test_the_rule_of_the_last_flag_cuts_nothing() -> None:
    after = CutAfterSuccess(rule="last").apply(episode([MOVE] * 4, [1, 1, 0, 1]))

    assert [0, 1, 2, 3] == after.index.tolist()


@pytest.mark.parametrize(("success", "expected"), [("1 1 1", None), ("1 1 0", "no_success")])
def test_an_episode_without_success_is_rejected(success: str, expected: str | None) -> None:
    rule = RequireSuccess(min_steps=3)

    assert expected == rule.reject(episode([MOVE] * 3, flags(success)))


@pytest.mark.parametrize("step", [RequireSuccess, CutAfterSuccess])
def test_no_success_at_all_is_not_a_success(step: Any) -> None:
    with pytest.raises(ValueError, match="min_success_steps"):
        step(min_steps=0)


def test_an_episode_without_steps_has_no_success() -> None:
    assert [None, None, None] == [
        success_end(flags(""), min_steps=1, rule=rule) for rule in ("consecutive", "cumulative", "last")
    ]


# The order: detect on the raw timeline, cut, then prune

TWELVE = [STILL if t in (1, 3) else MOVE for t in range(12)]
"""Twelve steps of which 1 and 3 hardly move."""


def steps_of(episode: Episode, **options: Any) -> list[int]:
    return indices(curate(episode, ppo_sft(**options)))


def test_flags_that_are_read_by_pruned_position_end_an_episode_too_late() -> None:
    late = episode(TWELVE, flags("0 0 0 0 1 1 1 1 1 1 1 1"))

    assert (10, 8) == (len(steps_of(late, compat="rl4vla")), len(steps_of(late)))


def test_the_cut_is_where_the_sixth_success_in_the_environments_time_is() -> None:
    late = episode(TWELVE, flags("0 0 0 0 1 1 1 1 1 1 1 1"))

    assert [0, 2, 4, 5, 6, 7, 8, 9] == steps_of(late)


def test_flags_that_are_read_by_pruned_position_may_never_end_an_episode() -> None:
    """Upstream reads six flags of which two are true; aligned, the streak ends with the last step."""
    missed = episode([STILL] * 4 + [MOVE] * 8, flags("0 0 0 0 0 0 1 1 1 1 1 1"))

    found = [curate(missed, ppo_sft(compat=mode)).success for mode in ("rl4vla", None)]

    assert [False, True] == found


def test_a_streak_that_upstream_never_sees_ends_with_its_sixth_step() -> None:
    missed = episode([STILL] * 4 + [MOVE] * 10, flags("0 0 0 0 0 0 1 1 1 1 1 1 0 0"))

    assert (10, 8) == (len(steps_of(missed, compat="rl4vla")), len(steps_of(missed)))


def test_small_steps_count_for_a_streak() -> None:
    resting = episode([MOVE, MOVE] + [STILL] * 6, flags("0 0 1 1 1 1 1 1"))

    assert [0, 1] == steps_of(resting)


def test_a_failure_during_a_small_step_breaks_a_streak() -> None:
    slipped = episode([MOVE, MOVE, MOVE, STILL, MOVE, MOVE, MOVE], flags("1 1 1 0 1 1 1"))

    assert "no_success" == curate(slipped, ppo_sft()).reason


def test_every_frame_has_one_bucket_and_its_reason() -> None:
    late = episode(TWELVE, flags("0 0 0 0 1 1 1 1 1 1 1 1"))

    expected = (
        Span(0, 1, "kept", ""),
        Span(1, 2, "pruned", "small_action"),
        Span(2, 3, "kept", ""),
        Span(3, 4, "pruned", "small_action"),
        Span(4, 10, "kept", ""),
        Span(10, 12, "truncated", "after_success"),
    )

    assert expected == curate(late, ppo_sft()).spans


def test_a_frame_that_upstream_would_prune_and_cut_is_pruned() -> None:
    solved = episode([MOVE, MOVE, MOVE, STILL, MOVE], flags("1 1 1 1 1"))

    expected = (
        Span(0, 2, "kept", ""),
        Span(2, 3, "truncated", "after_success"),
        Span(3, 4, "pruned", "small_action"),
        Span(4, 5, "truncated", "after_success"),
    )

    assert expected == curate(solved, ppo_sft(compat="rl4vla", min_success_steps=2)).spans


def test_a_rejected_episode_is_rejected_whole() -> None:
    failed = episode(TWELVE, [0] * 12)

    assert (Span(0, 12, "rejected", "no_success"),) == curate(failed, ppo_sft()).spans


def test_images_actions_and_flags_are_taken_together() -> None:
    actions = [[0.02 + t / 100, 0, 0, 0, 0, 0, 1] if t != 1 else STILL for t in range(4)]

    after = SmallActions().apply(episode(actions, [0, 1, 0, 1]))

    assert [0, 2, 3] == [int(after.frames[CAMERA].pixels(i)[0, 0, 0]) for i in range(3)]
    assert [0.02, 0.04, 0.05] == pytest.approx(after.arrays["action"][:, 0].tolist())
    assert [False, False, True] == after.success_after.tolist()


def test_no_required_successes_keep_an_episode_uncut() -> None:
    assert [0, 1, 2] == steps_of(episode([MOVE] * 3, [0, 0, 0]), min_success_steps=0)


def test_no_required_successes_keep_an_episode_uncut_in_compat_mode_too() -> None:
    assert [0, 1, 2] == steps_of(episode([MOVE] * 3, [0, 0, 0]), min_success_steps=0, compat="rl4vla")


def test_an_unknown_compat_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="rl4vla"):
        ppo_sft(compat="openvla")


def test_an_episode_that_is_pruned_to_nothing_is_solved_and_rejected() -> None:
    result = curate(episode([STILL] * 6, [1] * 6), ppo_sft())

    assert ("empty_after_pruning", True) == (result.reason, result.success)


# Lengths


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (0, "empty_after_pruning"),
        (1, "too_short"),
        (2, None),
        (3, None),
        (4, "too_long"),
    ],
)
def test_lengths_of_two_to_three_steps(steps: int, expected: str | None) -> None:
    some = episode([MOVE] * steps, [0] * steps)

    assert expected == Length(min_steps=2, max_steps=3).reject(some)


@pytest.mark.parametrize("options", [{"min_steps": 0}, {"min_steps": 3, "max_steps": 2}])
def test_lengths_that_let_nothing_pass_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="length"):
        Length(**options)


def test_lengths_are_those_after_pruning() -> None:
    shrunk = episode([MOVE, STILL, STILL, STILL, STILL, STILL], [1] * 6)

    assert "too_short" == curate(shrunk, ppo_sft(min_length=2)).reason


# Taking steps


def test_the_last_image_stays_only_with_the_last_step() -> None:
    whole = episode([MOVE] * 3, [0] * 3)
    whole = Episode(**{**_fields(whole), "final": dict(whole.frames)})

    assert ([CAMERA], []) == (
        [*whole.take(np.array([0, 2])).final],
        [*whole.take(np.array([0, 1])).final],
    )


def test_an_episode_with_arrays_of_two_lengths_is_refused() -> None:
    whole = episode([MOVE] * 3, [0] * 3)

    with pytest.raises(ValueError, match="3 steps"):
        Episode(**{**_fields(whole), "arrays": {"action": np.zeros((2, 7), np.float32)}})


def _fields(of: Episode) -> dict[str, Any]:
    names: Sequence[str] = ("id", "arrays", "frames", "task", "index", "final", "meta", "notes")
    return {name: getattr(of, name) for name in names}


@pytest.mark.parametrize(
    ("told", "options", "want"),
    [
        (1, {}, 3),
        (2, {}, None),
        (None, {}, None),
        (True, {}, None),
        (0, {}, None),
        ("1", {}, None),
        (1, {"min_success_steps": 2}, None),
        (2, {"min_success_steps": 1}, 3),
    ],
)
def test_what_a_recording_says_of_its_success_is_the_default(told: Any, options: Any, want: int | None) -> None:
    whole = episode([MOVE] * 3, [0, 0, 1])
    facts = {} if told is None else {"episode_metadata": {"success_steps": told}}
    whole = replace(whole, meta=EpisodeMeta({**whole.meta, **facts}))
    result = curate(whole, ppo_sft(**options))
    assert (None if result.episode is None else len(result.episode)) == want
