"""The same actions by another convention, against controllers, SciPy and worked numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tests.actions_data import LIBERO, RL4VLA, ROBOSUITE_15, get, pose
from vla_data.actions import Convention, convert, gripper_opening, preset, resolve
from vla_data.errors import DataError, UsageError

Floats = NDArray[np.float64]

LIBERO_ACTION = np.array([[0.5, -0.25, 0.9375, 0.2, -0.1, 0.375, 1.0]])
LIBERO_STATE = np.array([[-0.2088, 0.0006, 1.1733, 3.1351, 0.0021, -0.0887]])
WORLD_POSE = pose("rotvec", "world")


def physical(name: str) -> Convention:
    return preset(name).with_units("m", "rad")


# Controllers as oracles


@pytest.mark.parametrize("name", ["rs141_success_s35", *ROBOSUITE_15])
def test_robosuites_controller_commands_what_we_say(name: str) -> None:
    """Bit for bit: metres and radians of every recorded step."""
    convention = "robosuite_1.4_osc_pose" if name.startswith("rs141") else "robosuite_1.5_osc_pose"
    ours = convert(get(f"{name}/action"), preset(convention), physical(convention))
    assert np.array_equal(ours[:, :6], get(f"{name}/commanded"))


@pytest.mark.parametrize("name", ["rs141_success_s35", "rs152_success_s1"])
def test_robosuites_goals_are_ours(name: str) -> None:
    """The goal pose that its controller computed from the measured pose, by `absolute`."""
    source = preset("robosuite_1.4_osc_pose")
    measured = np.concatenate([get(f"{name}/controller_pos"), get(f"{name}/controller_mat")], axis=1)
    goals = convert(
        get(f"{name}/action"),
        source,
        replace(source, kind="absolute", translation_unit="m", rotation_unit="rad"),
        state=measured,
        state_convention=pose("matrix", "world"),
    )
    assert np.abs(goals[:, :3] - measured[:, :3] - get(f"{name}/goal_dpos")).max() < 1e-15
    before = Rotation.from_matrix(measured[:, 3:].reshape(-1, 3, 3))
    turned = (Rotation.from_rotvec(goals[:, 3:6]) * before.inv()).as_rotvec()
    assert np.abs(turned - get(f"{name}/goal_drot")).max() < 1e-7


def test_libero_keeps_the_orientation_goal_where_the_input_is_zero() -> None:
    """robosuite 1.4 under LIBERO: its own goals, also in the five steps whose rotation input is 0."""
    action = get("libero_oracle/action")
    measured = np.concatenate([get("libero_oracle/eef_pos"), get("libero_oracle/eef_mat")], axis=1)
    zero = (action[:, 3:6] == 0).all(axis=1)
    assert zero.sum() == 5
    target = replace(preset("libero"), kind="absolute", translation_unit="m", rotation_unit="rad")
    goals = convert(action, preset("libero"), target, state=measured, state_convention=pose("matrix", "world"))
    before = Rotation.from_matrix(measured[:, 3:].reshape(-1, 3, 3))
    turned = (Rotation.from_rotvec(goals[:, 3:6]) * before.inv()).as_rotvec()
    off = np.abs(turned - get("libero_oracle/goal_drot")).max(axis=1)
    # The recording starts after LIBERO's own first steps, so a goal from before it is not known.
    first = int(np.flatnonzero(~zero)[0])
    assert off[first:].max() < 1e-7
    back = convert(
        goals,
        resolve(preset("libero"), target),
        preset("libero"),
        state=measured,
        state_convention=pose("matrix", "world"),
    )
    assert np.abs(back - action)[:, :6].max() < 1e-13
    assert np.array_equal((back[:, 3:6] == 0).all(axis=1), zero)


@pytest.mark.parametrize("kind", ["delta", "target_delta"])
def test_maniskills_controller_commands_what_we_say(kind: str) -> None:
    """Inverted sign and norm clip of 3.0.1 included; its targets are float32."""
    name, convention = f"maniskill_{kind}_oracle", preset(f"maniskill_pd_ee_{kind}_pose")
    before = get(f"{name}/ee_before") if kind == "delta" else get(f"{name}/target_before")
    goals = convert(
        get(f"{name}/action"),
        convention,
        replace(convention, kind="absolute", translation_unit="m", rotation="quaternion_wxyz", rotation_unit="rad",
                layout={"translation": (0, 1, 2), "rotation": (3, 4, 5, 6), "gripper": (7,)}),
        state=before,
        state_convention=pose("quaternion_wxyz", "robot_base"),
    )  # fmt: skip
    after = get(f"{name}/target_after")
    assert np.abs(goals[:, :3] - after[:, :3]).max() < 5e-7
    off = (
        Rotation.from_quat(goals[:, 3:7], scalar_first=True)
        * Rotation.from_quat(after[:, 3:], scalar_first=True).inv()
    )
    assert off.magnitude().max() < 2e-6


@pytest.mark.parametrize("name", RL4VLA)
def test_rl4vlas_targets_are_the_sum_of_its_deltas(name: str) -> None:
    """From the first pose alone, and 2e-6 off after 40 steps: XYZ is what the controller executes."""
    source = preset("rl4vla_ppo")
    target = replace(source, kind="absolute", rotation="rotvec")
    poses = convert(
        get(f"{name}/action"),
        source,
        target,
        state=get(f"{name}/ee_before")[:1],
        state_convention=pose("quaternion_wxyz", "robot_base"),
    )
    after = get(f"{name}/target_after")
    assert np.abs(poses[:, :3] - after[:, :3]).max() < 1e-6
    off = Rotation.from_rotvec(poses[:, 3:6]) * Rotation.from_quat(after[:, 3:], scalar_first=True).inv()
    assert off.magnitude().max() < 5e-6


@pytest.mark.parametrize(("dialect", "off"), [("rl4vla_motion_planner", 6.2e-3), ("rl4vla_octo", 3.1e-3)])
def test_the_dialects_of_rl4vla_differ(dialect: str, off: float) -> None:
    """The same numbers read by its three collectors' conventions, as rotations."""
    action = get("rl4vla_noise_ep1/action")
    right, wrong = (
        convert(action, preset(name), replace(preset(name), rotation="rotvec"))[:, 3:6]
        for name in ("rl4vla_ppo", dialect)
    )
    difference = (Rotation.from_rotvec(right) * Rotation.from_rotvec(wrong).inv()).magnitude().max()
    assert difference == pytest.approx(off, rel=0.02)


def test_motion_planners_mismatch_in_degrees() -> None:
    """0.36 degrees at (.06, .06, .06) rad and 6.1 at (.3, -.2, .25), between extrinsic and intrinsic."""
    action = np.zeros((2, 7))
    action[:, 3:6] = [[0.06, 0.06, 0.06], [0.3, -0.2, 0.25]]
    action[:, 6] = 1
    a, b = (
        Rotation.from_rotvec(convert(action, preset(n), replace(preset(n), rotation="rotvec"))[:, 3:6])
        for n in ("rl4vla_motion_planner", "rl4vla_ppo")
    )
    assert np.round(np.rad2deg((a * b.inv()).magnitude()), 2).tolist() == [0.36, 6.14]


# Worked numbers


def test_libero_to_rdt_pose_slots_and_back() -> None:
    target = preset("rdt_pose_delta")
    rdt = convert(LIBERO_ACTION, preset("libero"), target)
    six = [0.98124653, 0.1835242, 0.05894164, -0.18850437, 0.9775114, 0.09453871]
    assert rdt.shape == (1, 128)
    assert rdt[0, 30:33].tolist() == [0.025, -0.0125, 0.046875]
    assert np.abs(rdt[0, 33:39] - six).max() < 5e-9
    assert rdt[0, 10] == 0
    assert np.flatnonzero(rdt[0]).tolist() == list(range(30, 39))
    back = convert(rdt, resolve(preset("libero"), target), preset("libero"))
    assert np.abs(back - LIBERO_ACTION).max() <= 2**-53


def test_libero_to_rdt_velocity_slots() -> None:
    per_second = convert(LIBERO_ACTION, preset("libero"), preset("rdt_velocity"))
    per_step = convert(LIBERO_ACTION, preset("libero"), preset("rdt_velocity_per_step"))
    assert np.abs(per_second[0, 39:45] - [0.5, -0.25, 0.9375, 2, -1, 3.75]).max() < 1e-15
    assert np.abs(per_step[0, 39:45] - [0.025, -0.0125, 0.046875, 0.1, -0.05, 0.1875]).max() < 1e-16
    result = resolve(preset("libero"), preset("rdt_velocity"))
    assert result.control_rate == 20
    assert np.abs(convert(per_second, result, preset("libero")) - LIBERO_ACTION).max() < 2e-16


def test_libero_to_rdt_absolute_goal_and_back() -> None:
    target = preset("rdt_absolute")
    goal = convert(LIBERO_ACTION, preset("libero"), target, state=LIBERO_STATE, state_convention=WORLD_POSE)
    six = [0.98172835, 0.19026764, 0.00276888, 0.18975117, -0.97776416, -0.08928462]
    assert np.abs(goal[0, 30:33] - [-0.1838, -0.0119, 1.220175]).max() < 1e-15
    assert np.abs(goal[0, 33:39] - six).max() < 5e-9
    result = resolve(preset("libero"), target)
    back = convert(goal, result, preset("libero"), state=LIBERO_STATE, state_convention=WORLD_POSE)
    assert np.abs(back - LIBERO_ACTION).max() < 1e-14


def test_grippers_by_declaration() -> None:
    commands = np.zeros((4, 7))
    commands[:, 6] = [-1, 1, 1, -1]
    for target, opened in (("openvla_libero", 1.0), ("rdt_pose_delta", 1.0), ("droid", 0.0)):
        same = replace(preset("libero"), **_gripper(preset(target)))
        assert convert(commands, preset("libero"), same)[:, 6].tolist() == [opened, 1 - opened, 1 - opened, opened]
        assert convert(convert(commands, preset("libero"), same), same, preset("libero"))[:, 6].tolist() == [
            -1,
            1,
            1,
            -1,
        ]


def _gripper(convention: Convention) -> dict[str, Any]:
    return {name: getattr(convention, name) for name in ("gripper_control", "gripper_open", "gripper_closed")}


def test_a_gripper_that_holds_stays_where_it_went() -> None:
    commands = np.zeros((5, 7))
    commands[:, 6] = [0.3, 0, -0.2, 0, 1]
    target = replace(preset("libero"), **_gripper(preset("rdt_absolute")))
    assert convert(commands, preset("libero"), target)[:, 6].tolist() == [0, 0, 1, 1, 0]
    with pytest.raises(DataError, match=r"step 0: the gripper is told to hold \(0\)"):
        convert(commands[1:2], preset("libero"), target)


def test_a_gripper_between_open_and_closed_is_no_direction() -> None:
    source = replace(preset("libero"), **_gripper(preset("rdt_absolute")))
    commands = np.zeros((2, 7))
    commands[:, 6] = [1, 0.4]
    with pytest.raises(DataError, match="step 1: a gripper position between open and closed"):
        convert(commands, source, preset("libero"))
    assert convert(commands, source, preset("libero"), saturate=True)[:, 6].tolist() == [-1, 1]


@pytest.mark.parametrize("name", ["rl4vla_ppo", "bridge", "droid", "openvla_libero", "rdt_absolute"])
def test_a_gripper_position_in_another_unit_is_refused(name: str) -> None:
    """Also where nothing is converted: 255 is no opening, nor are millimetres, nor -1 where closed is 0."""
    source = preset(name)
    low, high = sorted((source.gripper_open, source.gripper_closed))  # type: ignore[type-var]
    actions = np.zeros((3, source.width))
    if "6d" in source.rotation:
        actions[:, 33] = actions[:, 37] = 1.0
    at = source.layout["gripper"][0]
    for value in (255.0, 80.0, 2 * high - low, 2 * low - high, -255.0):
        actions[:, at] = high, value, low
        for target in (source, replace(source, **_gripper(preset("aloha")))):
            with pytest.raises(DataError, match=rf"E202.*step 1: a gripper position of {value:g}, where"):
                convert(actions, source, target)
    for value in (low, high, (low + high) / 2, high + 0.1 * (high - low)):
        actions[:, at] = high, value, low
        assert convert(actions, source, source)[1, at] == value


def test_gripper_opening_of_two_fingers() -> None:
    fingers = np.array([[0.04, -0.04], [0.0208, -0.0208], [0.001, -0.001], [0.05, -0.05]])
    assert np.abs(gripper_opening(fingers, width=0.08) - [1, 0.52, 0.025, 1]).max() < 1e-15


# Exactness


@given(hnp.arrays(np.float32, (9, 7), elements=st.floats(-1, 1, width=32)))
@settings(max_examples=200)
def test_float32_input_comes_back_bit_for_bit(action: NDArray[np.float32]) -> None:
    opens = action[:, 6] < 0
    for name in ("libero", "droid", "maniskill_pd_ee_delta_pose"):
        source = preset(name)
        if "norm" in (source.controller.rotation_clip, source.controller.translation_clip):  # type: ignore[union-attr]
            action = action / np.float32(2)
        action[:, 6] = np.where(opens, source.gripper_open, source.gripper_closed)
        metres = convert(action, source, physical(name))
        assert metres.dtype == np.float64
        again = convert(metres, physical(name), source).astype(np.float32)
        assert np.array_equal(again + np.float32(0), action + np.float32(0))


@given(hnp.arrays(np.float64, (9, 7), elements=st.floats(-1, 1, allow_subnormal=False)))
@settings(max_examples=200)
def test_float64_input_comes_back_within_one_unit_in_the_last_place(action: Floats) -> None:
    again = convert(convert(action, preset("libero"), physical("libero")), physical("libero"), preset("libero"))
    # Below 1e-300 the product is subnormal, and no robot moves.
    near = np.abs(again - action) <= np.maximum(np.spacing(np.abs(action)), 1e-300)
    assert near.all()


def test_some_float64_inputs_must_meet() -> None:
    """Why one unit is the best that is possible: two inputs that command the same metres."""
    inputs = 0.7 + np.arange(1000) * np.spacing(0.7)
    assert len(set((inputs * 0.05).tolist())) == 801


@pytest.mark.parametrize("name", LIBERO)
def test_recorded_input_comes_back(name: str) -> None:
    """Real episodes are float64; stored as float32 they come back exactly, as they are within a unit."""
    action = get(f"{name}/action")
    again = convert(convert(action, preset("libero"), physical("libero")), physical("libero"), preset("libero"))
    assert (np.abs(again - action) <= np.spacing(np.abs(action))).all()
    assert np.array_equal(again.astype(np.float32), action.astype(np.float32))
    rounded = action.astype(np.float32)
    exact = convert(convert(rounded, preset("libero"), physical("libero")), physical("libero"), preset("libero"))
    assert np.array_equal(exact.astype(np.float32), rounded)


def test_input_beyond_the_range_is_clipped_as_the_controller_does() -> None:
    action = np.array([[1.5, 0, -2, 0.1, 0, 0, 1]])
    metres = convert(action, preset("libero"), physical("libero"))
    assert metres[0, :3].tolist() == [0.05, 0, -0.05]
    with pytest.raises(DataError, match=r"step 0: the translation needs a controller input of 1\.2, above 1"):
        convert(metres * [1.2, 1, 1, 1, 1, 1, 1], physical("libero"), preset("libero"))
    saturated = convert(metres * [1.2, 1, 1, 1, 1, 1, 1], physical("libero"), preset("libero"), saturate=True)
    assert saturated[0, 0] == 1


# Deltas, poses, references, frames

poses = hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.just(6)), elements=st.floats(-2, 2))
SIX = Convention(
    layout={"translation": (0, 1, 2), "rotation": (3, 4, 5)},
    kind="absolute",
    frame="robot_base",
    translation_unit="m",
    rotation_unit="rad",
    rotation="rotvec",
    control_rate=10.0,
)


def same_poses(a: Floats, b: Floats) -> float:
    turn = (
        Rotation.from_rotvec(a[..., 3:6].reshape(-1, 3)) * Rotation.from_rotvec(b[..., 3:6].reshape(-1, 3)).inv()
    )
    return float(max(np.abs(a[..., :3] - b[..., :3]).max(), turn.magnitude().max()))


@given(
    poses,
    st.sampled_from(["previous_target", "current_state", "chunk_start"]),
    st.sampled_from(["robot_base", "end_effector"]),
    st.sampled_from(["robot_base", "end_effector"]),
    st.sampled_from(["delta", "velocity"]),
    st.sampled_from(["rotvec", "euler_extrinsic_xyz", "euler_intrinsic_zyx"]),
)
def test_deltas_of_poses_add_up_to_them(
    track: Floats, reference: str, frame: str, rotation_frame: str, kind: str, rotation: str
) -> None:
    """Property 15: differences and sums are each other's inverse, whatever they count from and along."""
    state = np.concatenate([track[:1] * 0.5, track[:-1] + 0.1])
    target = replace(
        SIX,
        kind=kind,
        reference=reference,
        frame=frame,
        rotation_frame=rotation_frame,
        chunk=3 if reference == "chunk_start" else None,
        rotation=rotation,
    )
    deltas = convert(track, SIX, target, state=state, state_convention=SIX)
    assert same_poses(convert(deltas, target, SIX, state=state, state_convention=SIX), track) < 1e-12


@given(poses)
def test_deltas_are_scipys(track: Floats) -> None:
    state = track * 0.9
    target = replace(SIX, kind="delta", reference="current_state")
    deltas = convert(track, SIX, target, state=state, state_convention=SIX)
    now, goal = Rotation.from_rotvec(state[:, 3:]), Rotation.from_rotvec(track[:, 3:])
    assert np.abs(deltas[:, :3] - (track - state)[:, :3]).max() < 1e-15
    assert np.abs(Rotation.from_rotvec(deltas[:, 3:]).as_matrix() - (goal * now.inv()).as_matrix()).max() < 1e-13
    own = replace(target, frame="end_effector")
    along = convert(track, SIX, own, state=state, state_convention=SIX)
    assert np.abs(along[:, :3] - now.inv().apply((track - state)[:, :3])).max() < 1e-13
    assert np.abs(Rotation.from_rotvec(along[:, 3:]).as_matrix() - (now.inv() * goal).as_matrix()).max() < 1e-13


def test_chunks_count_from_the_state_at_their_start() -> None:
    rng = np.random.default_rng(4)
    chunks = rng.normal(size=(5, 4, 6)) * 0.3
    state = rng.normal(size=(5, 6))
    target = replace(SIX, kind="delta", reference="chunk_start")
    relative = convert(chunks, SIX, target, state=state, state_convention=SIX)
    assert np.abs(relative[..., :3] - (chunks - state[:, None])[..., :3]).max() < 1e-15
    for n in range(5):
        one = convert(
            chunks[n], SIX, replace(target, chunk=4), state=np.repeat(state[n : n + 1], 4, 0), state_convention=SIX
        )
        assert np.array_equal(one, relative[n])
    assert same_poses(convert(relative, target, SIX, state=state, state_convention=SIX), chunks) < 1e-13


def test_a_chunk_in_one_row_starts_anew_every_chunk_steps() -> None:
    track = np.zeros((5, 6))
    track[:, 0] = [1, 2, 3, 4, 5]
    target = replace(SIX, kind="delta", reference="chunk_start", chunk=2)
    state = np.zeros((5, 6))
    state[:, 0] = [0.5, 1.5, 2.5, 3.5, 4.5]
    assert convert(track, SIX, target, state=state, state_convention=SIX)[:, 0].tolist() == [
        0.5,
        1.5,
        0.5,
        1.5,
        0.5,
    ]


def test_angle_differences_are_no_rotations() -> None:
    """What OpenVLA makes of bridge: differences of Euler angles, wrapped; and the way back."""
    euler = replace(SIX, rotation="euler_extrinsic_xyz")
    state = np.array([[0, 0, 0, 3.1, 0.2, -0.4], [0, 0, 0, -3.1, 0.25, -0.3]])
    track = np.array([[0.1, 0, 0, -3.1, 0.25, -0.3], [0.2, 0, 0, -3.0, 0.3, -0.2]])
    target = replace(euler, kind="delta", reference="current_state", rotation_delta="angle_difference")
    deltas = convert(track, euler, target, state=state, state_convention=euler)
    assert np.abs(deltas[:, 3:] - [[2 * np.pi - 6.2, 0.05, 0.1], [0.1, 0.05, 0.1]]).max() < 1e-14
    back = convert(deltas, target, SIX, state=state, state_convention=euler)
    assert same_poses(back, convert(track, euler, SIX)) < 1e-14


def test_between_world_and_base() -> None:
    base = np.eye(4)
    base[:3, :3] = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    base[:3, 3] = [-0.56, 0, 0.912]
    delta = replace(SIX, kind="delta", reference="previous_target")
    action = np.array([[0.1, 0, 0, 0.3, 0, 0]])
    in_world = convert(action, delta, replace(delta, frame="world"), base=base)
    assert np.abs(in_world - [[0, 0.1, 0, 0, 0.3, 0]]).max() < 1e-15
    assert np.abs(convert(in_world, replace(delta, frame="world"), delta, base=base) - action).max() < 1e-15
    there = convert(action, SIX, replace(SIX, frame="world"), base=base)
    assert np.abs(there[0, :3] - [-0.56, 0.1, 0.912]).max() < 1e-15
    with pytest.raises(UsageError, match="needs the pose of the robot's base"):
        convert(action, delta, replace(delta, frame="world"))


def test_between_controllers_that_read_a_zero_differently() -> None:
    """LIBERO's 0 keeps the last goal; a controller that goes back to the measured pose must be told to turn."""
    source = preset("libero")
    controller = source.controller
    assert controller is not None
    target = replace(source, controller=replace(controller, zero_rotation="applies"))
    action = np.zeros((2, 7))
    action[0, 5] = 0.4
    action[:, 6] = 1
    state = np.zeros((2, 6))  # the arm has not moved yet when the 0 comes
    with pytest.raises(UsageError, match="needs state="):
        convert(action, source, target)
    told = convert(action, source, target, state=state, state_convention=WORLD_POSE)
    assert np.abs(told[:, 3:6] - [[0, 0, 0.4], [0, 0, 0.4]]).max() < 1e-15
    assert np.array_equal(convert(told, target, source), told)  # no 0 is left that could be read otherwise


@pytest.mark.parametrize("name", ["libero", "openvla_libero"])
@pytest.mark.parametrize("source", ["robosuite_1.5_osc_pose", "maniskill_pd_ee_delta_pose", "droid"])
def test_a_turn_of_zero_is_no_order_to_hold(source: str, name: str) -> None:
    """LIBERO's controller would keep the goal of step 1; what is meant is the measured orientation."""
    meant = replace(preset(source), frame="world", control_rate=20.0, **_gripper(preset(name)))
    action = np.zeros((4, 7))
    action[:, 6] = meant.gripper_open
    action[1, 3] = 0.8
    with pytest.raises(DataError, match=r"E202 out-of-range: step 2: a turn of 0, by which the target's contr"):
        convert(action, meant, preset(name), state=np.zeros((4, 6)), state_convention=WORLD_POSE)
    with pytest.raises(DataError, match="step 2"):  # there is no nearest one
        convert(action, meant, preset(name), state=np.zeros((4, 6)), state_convention=WORLD_POSE, saturate=True)


def test_zeros_that_hold_the_same_goal_are_zeros() -> None:
    """The same pose was measured all the while, or the goal before is where the arm has come to."""
    source = replace(preset("robosuite_1.5_osc_pose"), frame="world")
    action = np.zeros((5, 7))
    action[:, 6] = 1
    action[3, 4] = 0.5
    state = np.tile([0.1, 0, 1, 0.3, -0.2, 2.9], (5, 1))
    turned = Rotation.from_rotvec([0, 0.25, 0]) * Rotation.from_rotvec(state[0, 3:])
    state[4, 3:] = turned.as_rotvec()  # the goal of step 3 is reached
    told = convert(action, source, preset("libero"), state=state, state_convention=WORLD_POSE)
    assert np.array_equal(told[[0, 1, 2, 4], 3:6], np.zeros((4, 3)))
    assert np.abs(told - action).max() < 1e-15
    poses = replace(preset("libero"), kind="absolute", translation_unit="m", rotation_unit="rad")
    known: dict[str, Any] = {"state": state, "state_convention": WORLD_POSE}
    ours, theirs = convert(action, source, poses, **known), convert(told, preset("libero"), poses, **known)
    assert same_poses(ours, theirs) < 1e-14


def test_a_pose_that_is_the_measured_one_is_no_order_to_hold() -> None:
    poses = replace(preset("libero"), kind="absolute", translation_unit="m", rotation_unit="rad")
    goals = np.zeros((3, 7))
    goals[:, 6] = 1
    goals[:, 5] = [0.2, 0.2, 0.0]  # the second holds, the third goes back to where the arm is
    state = np.zeros((3, 6))
    with pytest.raises(DataError, match="step 2: a turn of 0"):
        convert(goals, poses, preset("libero"), state=state, state_convention=WORLD_POSE)
    told = convert(goals[:2], poses, preset("libero"), state=state[:2], state_convention=WORLD_POSE)
    assert told[:, 5].tolist() == [0.4, 0.0]


def test_a_turn_too_small_for_a_float_is_no_order_to_hold() -> None:
    action = np.zeros((2, 7))
    action[:, 6] = 1
    action[1, 3] = 5e-324
    with pytest.raises(DataError, match="step 1: a turn of 0"):
        convert(action, preset("libero"), physical("libero"))


@pytest.mark.parametrize("rotation", ["rotvec", "euler_intrinsic_xyz", "quaternion_wxyz", "6d_columns", "matrix"])
def test_what_holds_still_holds_in_other_axes_and_forms(rotation: str) -> None:
    """Zeros stay exactly that through a turned base, and so do the goals that they hold."""
    base = np.eye(4)
    base[:3, :3] = Rotation.random(random_state=2).as_matrix()
    width = {"rotvec": 3, "euler_intrinsic_xyz": 3, "quaternion_wxyz": 4, "6d_columns": 6, "matrix": 9}[rotation]
    layout = {"translation": (0, 1, 2), "rotation": tuple(range(3, 3 + width)), "gripper": (3 + width,)}
    target = replace(
        preset("libero"), rotation=rotation, layout=layout, frame="robot_base", translation_unit="m",
        rotation_unit="rad",
    )  # fmt: skip
    action = np.zeros((6, 7))
    action[:, 6] = 1
    action[[1, 4], 3:6] = [[0.8, -0.1, 0.3], [0.1, 0.7, -0.5]]
    there = convert(action, preset("libero"), target, base=base)
    back = convert(there, resolve(preset("libero"), target), preset("libero"), base=base)
    assert np.array_equal(back == 0, action == 0)
    assert np.abs(back - action).max() < 1e-15
    poses = replace(preset("libero"), kind="absolute", translation_unit="m", rotation_unit="rad")
    known: dict[str, Any] = {"state": np.zeros((6, 6)), "state_convention": WORLD_POSE, "base": base}
    goals = convert(action, preset("libero"), poses, **known)
    assert same_poses(convert(there, resolve(preset("libero"), target), poses, **known), goals) < 1e-14
    assert np.array_equal(goals[1, 3:6], goals[2, 3:6])


@pytest.mark.parametrize("name", LIBERO)
def test_real_episodes_of_libero_keep_their_zeros(name: str) -> None:
    """To poses and back, and to RDT's slots and back."""
    action, state = get(f"{name}/action")[1:], get(f"{name}/state")[:, :6]
    for target in ("rdt_absolute", "rdt_pose_delta", "rdt_velocity"):
        known: dict[str, Any] = {"state": state[: len(action)], "state_convention": WORLD_POSE}
        there = convert(action, preset("libero"), preset(target), **known)
        back = convert(there, resolve(preset("libero"), preset(target)), preset("libero"), **known, saturate=True)
        held = (action[:, 3:6] == 0).all(axis=1)
        assert np.array_equal((back[:, 3:6] == 0).all(axis=1), held)
        assert np.abs(back - action)[:, :6].max() < 1e-13


def test_a_controller_that_holds_has_differences_of_angles_too() -> None:
    """OpenVLA's form of bridge, made of LIBERO's actions."""
    action = np.zeros((2, 7))
    action[:, 6] = 1
    action[0, 3] = 0.8
    target = replace(preset("openvla_bridge"), frame="world", control_rate=20.0)
    known: dict[str, Any] = {"state": np.zeros((2, 6)), "state_convention": WORLD_POSE}
    there = convert(action, preset("libero"), target, **known)
    assert np.abs(there[:, 3:6] - [[0.4, 0, 0], [0, 0, 0]]).max() < 1e-15
    back = convert(there, resolve(preset("libero"), target), preset("libero"), **known)
    assert np.abs(back - action).max() < 1e-15
    assert np.array_equal(back[1, 3:6], [0, 0, 0])


def test_joints_by_arm() -> None:
    source = preset("aloha")
    action, state = get("aloha/action"), get("aloha/state")
    target = replace(source, kind="delta", reference="current_state", joint_unit="deg")
    deltas = convert(action, source, target, state=state, state_convention=source)
    joints = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    expected = np.rad2deg((action - state).astype(np.float64))
    assert np.abs(deltas - expected)[:, joints].max() < 1e-4  # the recorded numbers are float32
    assert np.array_equal(deltas[:, [6, 13]], action[:, [6, 13]].astype(np.float64))
    back = convert(deltas, target, source, state=state, state_convention=source)
    assert np.abs(back - action).max() < 1e-14


def test_the_argument_stays_as_it_is() -> None:
    action = LIBERO_ACTION.copy()
    out = convert(action, preset("libero"), preset("libero"))
    out += 1
    assert np.array_equal(action, LIBERO_ACTION)


# Refusals that name the missing fact


@pytest.mark.parametrize(
    ("source", "target", "arguments", "code", "message"),
    [
        ({"rotation": "undeclared"}, {"rotation": "rotvec"}, {}, "E231", "rotation"),
        ({"translation_unit": "undeclared"}, {"translation_unit": "cm"}, {}, "E231", "translation_unit"),
        ({"rotation_unit": "undeclared"}, {"rotation_unit": "deg"}, {}, "E231", "rotation_unit"),
        ({"kind": "undeclared"}, {"kind": "absolute"}, {}, "E231", "the source's kind"),
        ({"reference": "undeclared"}, {"kind": "absolute"}, {"state": 1}, "E231", "reference"),
        ({"frame": "undeclared"}, {"kind": "absolute"}, {"state": 1}, "E231", "the source's frame"),
        ({"control_rate": None}, {"kind": "velocity"}, {}, "E231", "control_rate"),
        ({"gripper_open": None, "gripper_closed": None}, {}, {}, "E231", "the source's gripper_open"),
        ({}, {"kind": "absolute"}, {}, "E232", "state=, the measured pose, which delta to absolute"),
        ({}, {"reference": "current_state"}, {}, "E232", "needs state="),
        ({}, {"kind": "absolute", "reference": "undeclared"}, {"state": 0}, "E231", "state_convention"),
        ({}, {"reference": "current_state"}, {"state": 2}, "E232", "before each action; there are 1 states for 3"),
        ({}, {"reference": "chunk_start"}, {"state": 1}, "E231", "chunk"),
        ({}, {"control_rate": 10.0}, {}, "E232", "control rates differ: 5 and 10 steps a second; resample first"),
        ({}, {"kind": "absolute", "frame": "end_effector"}, {"state": 1}, "E232", "end effector's own axes"),
        ({}, {"layout": {"translation": (0, 1, 2)}}, {}, "E232", "has no place for the source's 'rotation'"),
        ({"layout": {"translation": (0, 1, 2)}, "size": 7}, {}, {}, "E232", "a part 'rotation' that the source"),
        ({"layout": {}}, {}, {}, "E231", "layout"),
        ({"size": 9}, {}, {}, "E232", "the source's convention is for"),
    ],
)  # fmt: skip
def test_refusals(source: Any, target: Any, arguments: Any, code: str, message: str) -> None:
    one = replace(preset("rl4vla_ppo"), **source)
    other = replace(preset("rl4vla_ppo"), **{"gripper_open": 0.5, "gripper_closed": 0.0, **target})
    if source == {"control_rate": None}:
        other = replace(other, control_rate=None)
    state = [None, np.zeros((3, 6)), np.zeros((1, 6))]
    given: dict[str, Any] = {}
    if "state" in arguments:
        given = {"state": np.zeros((3, 6)) if arguments["state"] == 0 else state[arguments["state"]]}
        if arguments["state"]:
            given["state_convention"] = SIX
    action = np.zeros((3, 7))
    with pytest.raises(UsageError, match=message) as caught:
        convert(action, one, other, **given)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)


def test_what_both_leave_open_is_carried_along() -> None:
    """Metres become centimetres though nobody says what the rotation is."""
    source = replace(preset("rl4vla_ppo"), rotation="undeclared")
    action = get("rl4vla_noise_ep1/action")
    out = convert(action, source, replace(source, translation_unit="cm"))
    assert np.array_equal(out[:, 3:], action[:, 3:])
    assert np.array_equal(out[:, :3], action[:, :3] / 0.01)


def test_numbers_that_are_not_finite_are_refused() -> None:
    action = LIBERO_ACTION.copy()
    action[0, 4] = np.nan
    with pytest.raises(DataError, match=r"E201 not-finite: action \[0\], number 4 is not finite"):
        convert(action, preset("libero"), preset("libero"))
