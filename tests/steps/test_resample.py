"""Other rates: what is shown, what is commanded, and what comes of it."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.actions_data import get, pose
from vla_data.actions import Convention, convert, preset
from vla_data.core import Episode, Feature, Schema
from vla_data.core.curate import Transform, curate
from vla_data.errors import DataError, UsageError
from vla_data.media.frames import Frames
from vla_data.steps.resample import Resample, positions

RL4VLA = preset("rl4vla_ppo")
STATE = pose("quaternion_xyzw", "robot_base", gripper=True)
RATES = [1.0, 3.0, 4.0, 5.0, 7.5, 10.0, 12.0, 15.0, 20.0, 29.97, 30.0, 50.0]


def facts(convention: Convention) -> dict[str, Any]:
    return convention.to_json()


def episode(action: NDArray[Any], **arrays: NDArray[Any]) -> Episode:
    steps = len(action)
    images = tuple(np.full((2, 2, 3), t % 256, dtype=np.uint8) for t in range(steps + 1))
    return Episode(
        id="a",
        arrays={"action": action, **arrays},
        frames={"observation.images.top": Frames(images[:-1], 2, 2)},
        final={"observation.images.top": Frames(images[-1:], 2, 2)},
        task="move",
        index=np.arange(steps) * 2 + 1,  # as a step before it may have left them
    )


def run(
    action: NDArray[Any], source_fps: float, fps: float, convention: Convention = RL4VLA, **arrays: NDArray[Any]
) -> Episode:
    rated = replace(convention, control_rate=source_fps)
    conventions = {"action": facts(rated), "observation.state": facts(STATE)}
    return Resample(conventions=conventions, source_fps=source_fps, fps=fps).apply(episode(action, **arrays))


def random_actions(steps: int, seed: int, dtype: Any = np.float64) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    action = rng.uniform(-0.3, 0.3, (steps, 7))
    action[:, 6] = rng.choice([-1, 1], steps)
    return action.astype(dtype)


rates = st.sampled_from(RATES)
lengths = st.integers(1, 60)


# Property 23: which steps are shown


@given(lengths, rates, rates)
@settings(max_examples=300)
def test_positions(steps: int, source_fps: float, fps: float) -> None:
    index = positions(steps, source_fps, fps)
    ratio = Fraction(str(fps)) / Fraction(str(source_fps))
    assert len(index) == math.floor((steps - 1) * ratio) + 1
    assert index[0] == 0
    assert (np.diff(index) >= 0).all()
    if len(index) > 1:
        assert index[-1] == steps - 1
        exact = [Fraction(k * (steps - 1), len(index) - 1) for k in range(len(index))]
        assert index.tolist() == [math.floor(x + Fraction(1, 2)) for x in exact]
        # A step is longer than 1 / fps by one part in n - 1 at most.
        assert 1 <= Fraction(steps - 1, len(index) - 1) * ratio < 1 + Fraction(1, len(index) - 1)


def test_no_steps_stay_none() -> None:
    assert len(positions(0, 20, 10)) == 0
    empty = episode(np.zeros((0, 7)))
    step = Resample(conventions={"action": facts(RL4VLA)}, source_fps=5, fps=1)
    assert step.apply(empty) is empty


@given(lengths, rates)
def test_same_rate_is_identity(steps: int, fps: float) -> None:
    before = episode(random_actions(steps, 0))
    conventions = {"action": facts(replace(RL4VLA, control_rate=fps))}
    assert Resample(conventions=conventions, source_fps=fps, fps=fps).apply(before) is before


def test_images_text_and_index_go_together() -> None:
    words = np.array([f"do {t}" for t in range(7)])
    whole = np.arange(7, dtype=np.int64)
    on = np.arange(7) % 2 == 0
    for fps in (2.0, 5.0, 25.0):
        out = run(random_actions(7, 1), 10, fps, task=words, observation_count=whole, observation_on=on)
        shown = positions(7, 10, fps)
        pixels = [int(out.frames["observation.images.top"].pixels(i)[0, 0, 0]) for i in range(len(out))]
        assert pixels == shown.tolist()
        assert out.index.tolist() == (shown * 2 + 1).tolist()
        assert out.arrays["task"].tolist() == words[shown].tolist()
        assert out.arrays["observation_count"].tolist() == shown.tolist()
        assert out.arrays["observation_on"].tolist() == on[shown].tolist()
        assert int(out.final["observation.images.top"].pixels(0)[0, 0, 0]) == 7
        assert out.meta["resampled"] == {"from": 10.0, "to": fps}


# Property 23: what is commanded


@given(lengths, rates, rates, st.integers(0, 99), st.sampled_from(["rl4vla_ppo", "rl4vla_octo", "bridge"]))
@settings(max_examples=200)
def test_displacement_stays(steps: int, source_fps: float, fps: float, seed: int, name: str) -> None:
    """Sums of translations and products of rotations, to 1e-6 and far better."""
    convention = preset(name)
    action = random_actions(steps, seed)
    action[:, 6] = np.maximum(action[:, 6], convention.gripper_closed)
    out = run(action, source_fps, fps, convention).arrays["action"]
    assert np.abs(out[:, :3].sum(axis=0) - action[:, :3].sum(axis=0)).max() < 1e-12
    form = {"rl4vla_ppo": "XYZ", "bridge": "xyz"}.get(name)

    def whole(rows: NDArray[Any]) -> Rotation:
        total = Rotation.identity()
        for row in rows:
            turn = Rotation.from_euler(form, row[3:6]) if form else Rotation.from_rotvec(row[3:6])
            total = turn * total
        return total

    assert (whole(out) * whole(action).inv()).magnitude() < 1e-12


@given(lengths, rates, rates, st.integers(0, 99))
def test_float32_displacement_stays_to_a_millionth(steps: int, source_fps: float, fps: float, seed: int) -> None:
    action = random_actions(steps, seed, np.float32)
    out = run(action, source_fps, fps).arrays["action"]
    assert out.dtype == np.float32
    moved = out[:, :3].astype(np.float64).sum(axis=0) - action[:, :3].astype(np.float64).sum(axis=0)
    assert np.abs(moved).max() < 1e-6


@given(lengths, rates, rates, st.integers(0, 99))
def test_grippers_are_those_shown(steps: int, source_fps: float, fps: float, seed: int) -> None:
    action = random_actions(steps, seed)
    out = run(action, source_fps, fps).arrays["action"]
    assert np.array_equal(out[:, 6], action[positions(steps, source_fps, fps), 6])


@pytest.mark.parametrize("frame", ["robot_base", "end_effector"])
@pytest.mark.parametrize("fps", [5.0, 10.0, 40.0, 50.0])
def test_composed_deltas_lead_where_the_deltas_lead(frame: str, fps: float) -> None:
    """Integrate, then look at the ends of windows: the same poses, by either way, in either frame."""
    source = replace(RL4VLA, frame=frame, control_rate=20.0)
    action = random_actions(31, 5)
    out = run(action, 20, fps, source).arrays["action"]
    start = np.array([[0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 0.5, 0.0]])

    def integrate(rows: NDArray[Any], rate: float) -> NDArray[Any]:
        rated = replace(source, control_rate=rate)
        target = replace(rated, kind="absolute", frame="robot_base", rotation="rotvec")
        return convert(rows, rated, target, state=start, state_convention=STATE)

    fine, coarse = (
        (integrate(action, 20.0), integrate(out, fps))
        if fps < 20
        else (integrate(out, fps), integrate(action, 20.0))
    )
    if fps < 20:
        ends = np.append(positions(31, 20, fps)[1:], 31) - 1
    else:
        first = np.arange(len(out)) * 30 // (len(out) - 1)
        ends = np.flatnonzero(np.diff(np.append(first, 31)))
    assert np.abs(fine[ends, :3] - coarse[:, :3]).max() < 1e-12
    off = Rotation.from_rotvec(fine[ends, 3:6]) * Rotation.from_rotvec(coarse[:, 3:6]).inv()
    assert off.magnitude().max() < 1e-12


def test_halving_twenty_steps_a_second_in_numbers() -> None:
    action = np.zeros((5, 7))
    action[:, 0] = [1, 2, 3, 4, 5]
    action[:, 6] = [1, -1, 1, 1, -1]
    assert run(action, 20, 10).arrays["action"][:, [0, 6]].tolist() == [[3, 1], [7, 1], [5, -1]]
    assert run(action, 20, 40).arrays["action"][:, 0].tolist() == [0.5, 0.5, 1, 1, 1.5, 1.5, 2, 2, 5]


def test_one_step_that_remains_stands_for_all() -> None:
    action = np.ones((5, 7))
    reward = np.ones(5, dtype=np.float32)
    out = run(action, 20, 1, **{"next.reward": reward})
    assert out.arrays["action"][:, 0].tolist() == [5]
    assert out.arrays["next.reward"].tolist() == [5]


def test_controller_input_becomes_metres_and_radians() -> None:
    """Two inputs of 1 are 0.1 m, which no input commands in one step."""
    action = get("rs141_success_s35/action").astype(np.float32)
    libero = preset("libero")
    step = Resample(conventions={"action": facts(libero)}, source_fps=20, fps=10)
    out = step.apply(episode(action)).arrays["action"]
    metres = convert(action, libero, libero.with_units("m", "rad"))
    assert np.abs(out[0, :3] - metres[:2, :3].sum(axis=0)).max() < 1e-8
    expected = Rotation.from_rotvec(metres[1, 3:6]) * Rotation.from_rotvec(metres[0, 3:6])
    assert np.abs(out[0, 3:6] - expected.as_rotvec()).max() < 1e-7
    assert np.abs(out[:, :3].sum(axis=0) - metres[:, :3].sum(axis=0)).max() < 1e-6
    schema = Schema(features={"action": Feature(dtype="float32", shape=(7,), convention=facts(libero))}, fps=20)
    after = step.describe(schema)
    result = Convention.from_json(after.features["action"].convention)
    assert (after.fps, result.control_rate) == (10, 10)
    assert (result.translation_unit, result.rotation_unit) == ("m", "rad")
    assert result.controller == libero.controller


@given(lengths, rates, rates, st.integers(0, 99))
def test_velocities_stay_velocities(steps: int, source_fps: float, fps: float, seed: int) -> None:
    """A constant velocity is the same at another rate, up to the longer step (see the module)."""
    velocity = replace(preset("rl4vla_octo"), kind="velocity")
    action = np.repeat(random_actions(1, seed), steps, axis=0)
    out = run(action, source_fps, fps, velocity).arrays["action"]
    moved = out[:, :3].sum(axis=0) / fps - action[:, :3].sum(axis=0) / source_fps
    assert np.abs(moved).max() < 1e-12


def test_absolute_commands() -> None:
    """Fewer: where each window ends. More: on the way from the command before."""
    source = replace(RL4VLA, kind="absolute", rotation="rotvec")
    action = np.zeros((4, 7))
    action[:, 0] = [0, 1, 3, 7]
    action[:, 5] = [0, 0.2, 0.2, 1.0]
    action[:, 6] = [1, -1, -1, 1]
    fewer = run(action, 20, 10, source).arrays["action"]
    assert fewer[:, [0, 5, 6]].tolist() == [[3, 0.2, 1], [7, 1, 1]]
    more = run(action, 10, 20, source).arrays["action"]
    assert np.abs(more[:, 0] - [0, 0, 0.5, 1, 2, 3, 7]).max() < 1e-15
    assert np.abs(more[:, 5] - [0, 0, 0.1, 0.2, 0.2, 0.2, 1.0]).max() < 1e-15
    assert more[:, 6].tolist() == [1, -1, -1, -1, -1, 1, 1]


def test_angle_differences_add_up() -> None:
    action = random_actions(4, 3)
    out = run(action, 10, 5, replace(preset("openvla_bridge"), gripper_closed=-1.0)).arrays["action"]
    assert np.abs(out[0, :6] - action[:3, :6].sum(axis=0)).max() < 1e-15
    assert len(out) == 2


# Observations


def test_states_between_their_neighbours() -> None:
    state = np.zeros((3, 8))
    state[:, 0] = [0, 1, 3]
    state[:, 3:7] = Rotation.from_rotvec([[0, 0, 0], [0, 0, 1], [0, 0, 3]]).as_quat()
    state[:, 7] = [0.04, 0.0, 0.04]
    state[2, 3:7] *= -1  # the same rotation by another name must not send the arm the long way round
    out = run(np.zeros((3, 7)), 10, 20, **{"observation.state": state}).arrays["observation.state"]
    assert np.abs(out[:, 0] - [0, 0.5, 1, 2, 3]).max() < 1e-15
    turned = Rotation.from_quat(out[:, 3:7]).as_rotvec()
    assert np.abs(turned[:, 2] - [0, 0.5, 1, 2, 3]).max() < 1e-14
    assert np.abs(np.linalg.norm(out[:, 3:7], axis=1) - 1).max() < 1e-15
    assert np.array_equal(out[[0, 2, 4]], state)
    assert set(out[:, 7].tolist()) == {0.04, 0.0}
    fewer = run(np.zeros((3, 7)), 20, 10, **{"observation.state": state}).arrays["observation.state"]
    assert np.array_equal(fewer, state[[0, 2]])


@given(st.integers(2, 40), st.sampled_from([12.0, 15.0, 30.0, 50.0]), st.integers(0, 99))
def test_rotations_stay_of_unit_length(steps: int, fps: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(steps, 8))
    state[:, 3:7] /= np.linalg.norm(state[:, 3:7], axis=1, keepdims=True)
    out = run(np.zeros((steps, 7)), 10, fps, **{"observation.state": state}).arrays["observation.state"]
    assert np.abs(np.linalg.norm(out[:, 3:7], axis=1) - 1).max() < 1e-14
    low, high = state[:, :3].min(axis=0), state[:, :3].max(axis=0)
    assert ((out[:, :3] >= low - 1e-15) & (out[:, :3] <= high + 1e-15)).all()


def test_what_is_not_declared_is_shown_and_never_made_up() -> None:
    numbers = np.array([[0.0], [1.0], [5.0]])
    out = run(np.zeros((3, 7)), 10, 20, **{"observation.other": numbers})
    assert out.arrays["observation.other"].ravel().tolist() == [0, 1, 1, 5, 5]


# What comes of it


def test_outcomes_of_fewer_steps() -> None:
    out = run(
        np.zeros((6, 7)),
        20,
        10,
        **{
            "next.reward": np.array([0.5, 1, 0, 2, 0, 4], dtype=np.float32),
            "next.success": np.array([0, 1, 0, 0, 0, 1], dtype=bool),
            "next.terminated": np.array([0, 0, 0, 0, 0, 1], dtype=bool),
            "next.discount": np.array([1, 0.5, 0.5, 1, 1, 0]),
            "next.value": np.array([0, 1, 2, 3, 4, 5.0]),
        },
    )
    assert positions(6, 20, 10).tolist() == [0, 3, 5]
    assert out.arrays["next.reward"].tolist() == [1.5, 2, 4]
    assert out.arrays["next.reward"].dtype == np.float32
    assert out.arrays["next.success"].tolist() == [True, False, True]
    assert out.arrays["next.terminated"].tolist() == [False, False, True]
    assert out.arrays["next.discount"].tolist() == [0.25, 1, 0]
    assert out.arrays["next.value"].tolist() == [2, 4, 5]


def test_outcomes_of_more_steps() -> None:
    out = run(
        np.zeros((3, 7)),
        10,
        20,
        **{
            "next.reward": np.array([0.5, 1, 2]),
            "next.success": np.array([0, 1, 1], dtype=bool),
            "next.terminated": np.array([0, 0, 1], dtype=bool),
            "next.discount": np.array([1, 0.5, 0]),
        },
    )
    assert out.arrays["next.reward"].tolist() == [0, 0.5, 0, 1, 2]
    assert out.arrays["next.success"].tolist() == [False, False, False, True, True]
    assert out.arrays["next.terminated"].tolist() == [False, False, False, False, True]
    assert out.arrays["next.discount"].tolist() == [1, 1, 1, 0.5, 0]


@given(lengths, rates, rates, st.integers(0, 99))
def test_rewards_add_up_and_no_success_is_lost(steps: int, source_fps: float, fps: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reward, success = rng.normal(size=steps), rng.random(steps) < 0.2
    out = run(np.zeros((steps, 7)), source_fps, fps, **{"next.reward": reward, "next.success": success})
    assert abs(out.arrays["next.reward"].sum() - reward.sum()) < 1e-12
    assert out.arrays["next.success"].any() == success.any()


# The step


def test_step_is_plain_data() -> None:
    step = Resample(conventions={"action": facts(RL4VLA), "a": {"kind": "absolute"}}, source_fps=5, fps=2)
    assert repr(pickle.loads(pickle.dumps(step))) == repr(step)
    other = Resample(conventions={"a": {"kind": "absolute"}, "action": facts(RL4VLA)}, source_fps=5.0, fps=2.0)
    assert repr(other) == repr(step)


@pytest.mark.parametrize("fps", [2.0, 10.0])
def test_every_source_frame_is_accounted_for(fps: float) -> None:
    step = Resample(conventions={"action": facts(RL4VLA)}, source_fps=5, fps=fps)
    assert isinstance(step, Transform)
    whole = replace(episode(random_actions(9, 0)), index=np.arange(9))
    buckets = {"kept": 0, "pruned": 0}
    for span in curate(whole, (step,)).spans:
        buckets[span.bucket] += span.stop - span.start
    kept = len(set(positions(9, 5, fps).tolist()))
    assert buckets == {"kept": kept, "pruned": 9 - kept}


def test_describe_refuses_data_of_another_rate() -> None:
    step = Resample(conventions={"action": facts(RL4VLA)}, source_fps=5, fps=2)
    with pytest.raises(UsageError, match="the data has 10 steps a second, not 5"):
        step.describe(Schema(features={}, fps=10))


def test_describe_keeps_other_facts() -> None:
    image = Feature(dtype="image", shape=(2, 2, 3), convention={"colour": "rgb"})
    action = Feature(dtype="float32", shape=(7,), convention=facts(replace(RL4VLA, control_rate=None)))
    step = Resample(conventions={"action": action.convention}, source_fps=5, fps=2)
    after = step.describe(Schema(features={"observation.images.top": image, "action": action}, fps=5))
    assert after.features == {"observation.images.top": image, "action": action}
    assert after.fps == 2


@pytest.mark.parametrize(
    ("facts", "code", "message"),
    [
        (None, "E231", "the convention of action"),
        ({}, "E231", "action's layout"),
        ({"kind": "undeclared"}, "E231", "action's kind"),
        ({"rotation": "undeclared"}, "E231", "action's rotation"),
        ({"frame": "undeclared"}, "E231", "action's frame"),
        ({"reference": "chunk_start"}, "E232", "start of a chunk"),
        ({"control_rate": 10.0}, "E232", "says 10 steps a second, the data has 5"),
    ],
)
def test_actions_whose_meaning_is_open_are_refused(facts: dict[str, Any] | None, code: str, message: str) -> None:
    whole = {**RL4VLA.to_json(), **(facts or {})} if facts else facts
    conventions = {} if whole is None else {"action": whole}
    with pytest.raises(UsageError, match=message) as caught:
        run_with(conventions)
    assert caught.value.code == code


def run_with(conventions: dict[str, Any]) -> Episode:
    return Resample(conventions=conventions, source_fps=5, fps=2).apply(episode(np.zeros((4, 7))))


def test_action_of_another_width_is_refused() -> None:
    step = Resample(conventions={"action": facts(RL4VLA)}, source_fps=5, fps=2)
    with pytest.raises(DataError, match=r"an action of shape \(8,\); its convention has 7"):
        step.apply(episode(np.zeros((4, 8))))


MOTORS = Convention(
    layout={"joints": (0, 1)}, kind="delta", reference="previous_target", joint_unit="rad", control_rate=10.0
)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_whole_numbers_add_up_as_other_numbers_do(dtype: str) -> None:
    action = np.asarray([[1, 2], [3, 4], [5, 6], [7, 8]], dtype)
    out = run(action, 10, 5, MOTORS, **{"next.reward": np.asarray([1, 0, 2, 3], dtype)})
    assert out.arrays["action"].tolist() == [[9, 12], [7, 8]]  # steps 0 to 2, and 3
    assert out.arrays["next.reward"].tolist() == [3, 3]
    assert out.arrays["action"].dtype == out.arrays["next.reward"].dtype == dtype
    poses = run(action, 10, 5, replace(MOTORS, kind="absolute", reference="undeclared"))
    assert all(row in action.tolist() for row in poses.arrays["action"].tolist())


@pytest.mark.parametrize(
    ("action", "dtype", "fps"),
    [([[100, 0]] * 4, "int8", 5), ([[3, 0]] * 4, "int32", 20), ([[60_000, 0]] * 4, "float16", 5)],
)
def test_what_a_type_does_not_hold_is_refused(action: list[list[float]], dtype: str, fps: float) -> None:
    with pytest.raises(DataError, match=rf"E202.*action of step .* which {dtype} can't hold"):
        run(np.asarray(action, dtype), 10, fps, MOTORS)


def test_rewards_that_overflow_their_type_are_refused() -> None:
    with pytest.raises(DataError, match=r"E202.*next.reward of step 0 is 300, which int8 can't hold"):
        run(np.zeros((4, 2)), 10, 5, MOTORS, **{"next.reward": np.full(4, 100, np.int8)})
