"""Every pair of axes of translations and rotations, against 4x4 matrices and SciPy alone."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vla_data.actions import Convention, convert
from vla_data.errors import UsageError

Floats = NDArray[np.float64]

STEPS, CHUNK, RATE = 7, 3, 10.0
FRAMES = ("world", "robot_base", "end_effector")
FIXED = {"world", "robot_base"}
REFERENCES = ("previous_target", "current_state", "chunk_start")
AXES = [pair for pair in product(FRAMES, FRAMES) if not (set(pair) <= FIXED and pair[0] != pair[1])]
"""(of translations, of rotations); two fixed frames at once are refused."""


def convention(kind: str, axes: tuple[str, str], reference: str = "undeclared") -> Convention:
    return Convention(
        layout={"translation": (0, 1, 2), "rotation": (3, 4, 5)},
        kind=kind,
        reference=reference,
        chunk=CHUNK if reference == "chunk_start" else None,
        frame=axes[0],
        rotation_frame=axes[1],
        translation_unit="m",
        rotation_unit="rad",
        rotation="rotvec",
        control_rate=RATE,
    )


def matrix(position: Floats, rotation: Floats) -> Floats:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, position
    return out


def targets(
    actions: Floats, states: list[Floats], base: Floats, kind: str, axes: tuple[str, str], reference: str
) -> list[Floats]:
    """Poses in the world that actions lead to, by the words of docs/conventions.md, matrix by matrix."""
    share = 1 / RATE if kind == "velocity" else 1.0
    before, out = states[0], []
    for t, row in enumerate(actions * share):
        at = {"previous_target": before, "current_state": states[t], "chunk_start": states[t // CHUNK * CHUNK]}
        start = at[reference]
        turned = {"world": np.eye(3), "robot_base": base[:3, :3], "end_effector": start[:3, :3]}
        along, about = turned[axes[0]], turned[axes[1]]
        # A turn about axes that are themselves turned by A is A dR A^-1, whatever the axes are.
        turn = about @ Rotation.from_rotvec(row[3:]).as_matrix() @ about.T
        before = matrix(start[:3, 3] + along @ row[:3], turn @ start[:3, :3])
        out.append(before)
    return out


class World:
    """A base and measured poses, as matrices and as the vectors that `convert` gets."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.base = matrix(rng.normal(size=3), Rotation.random(random_state=seed).as_matrix())
        turns = Rotation.random(STEPS, random_state=seed + 1)
        self.states = [matrix(p, r) for p, r in zip(rng.normal(size=(STEPS, 3)), turns.as_matrix(), strict=True)]
        self.actions = rng.normal(size=(STEPS, 6)) * 0.4

    def vectors(self, poses: list[Floats], frame: str) -> Floats:
        there = [np.linalg.inv(self.base) @ pose if frame == "robot_base" else pose for pose in poses]
        return np.array([[*p[:3, 3], *Rotation.from_matrix(p[:3, :3]).as_rotvec()] for p in there])

    def convert(self, actions: Floats, source: Convention, target: Convention, frame: str) -> Floats:
        return convert(
            actions,
            source,
            target,
            state=self.vectors(self.states, frame),
            state_convention=convention("absolute", (frame, frame)),
            base=self.base,
        )


def off(one: list[Floats], other: list[Floats]) -> float:
    return float(np.abs(np.array(one) - np.array(other)).max())


@pytest.mark.parametrize("state_frame", sorted(FIXED))
@pytest.mark.parametrize(("source", "target"), list(product(AXES, AXES)))
def test_all_pairs_of_axes_lead_to_the_same_poses_and_back(
    source: tuple[str, str], target: tuple[str, str], state_frame: str
) -> None:
    """7 x 7 pairs of axes x 9 of references x 2 kinds of target, both ways."""
    world = World(7)
    for (one, other), kind in product(product(REFERENCES, REFERENCES), ("delta", "velocity")):
        ours, theirs = convention("delta", source, one), convention(kind, target, other)
        want = targets(world.actions, world.states, world.base, "delta", source, one)
        there = world.convert(world.actions, ours, theirs, state_frame)
        assert off(targets(there, world.states, world.base, kind, target, other), want) < 1e-12
        back = world.convert(there, theirs, ours, state_frame)
        assert off(targets(back, world.states, world.base, "delta", source, one), want) < 1e-12


@given(
    st.integers(0, 10_000),
    st.sampled_from(AXES),
    st.sampled_from(REFERENCES),
    st.sampled_from(["delta", "velocity"]),
    st.sampled_from(sorted(FIXED)),
    st.sampled_from(sorted(FIXED)),
)
@settings(max_examples=150, deadline=None)
def test_motions_about_all_axes_lead_to_the_matrices_poses_and_back(
    seed: int, axes: tuple[str, str], reference: str, kind: str, frame: str, state_frame: str
) -> None:
    """Deltas to poses in either frame and from them, in any world."""
    world = World(seed)
    source, goal = convention(kind, axes, reference), convention("absolute", (frame, frame))
    want = targets(world.actions, world.states, world.base, kind, axes, reference)
    poses = world.convert(world.actions, source, goal, state_frame)
    found = [matrix(row[:3], Rotation.from_rotvec(row[3:]).as_matrix()) for row in poses]
    assert off([world.base @ pose if frame == "robot_base" else pose for pose in found], want) < 1e-12
    again = world.convert(poses, goal, source, state_frame)
    assert off(targets(again, world.states, world.base, kind, axes, reference), want) < 1e-11


def test_the_axes_of_the_arm_do_not_turn_with_the_base() -> None:
    """By hand: a base turned by 90 degrees about z, and an end effector along the world's axes."""
    base = np.eye(4)
    base[:2, :2] = [[0, -1], [1, 0]]
    source = convention("delta", ("world", "world"), "current_state")
    known: dict[str, Any] = {
        "state": np.zeros((1, 6)),
        "state_convention": convention("absolute", ("world", "world")),
        "base": base,
    }
    turn = np.array([[0, 0, 0, 0.3, 0, 0]])
    own = convention("delta", ("robot_base", "end_effector"), "current_state")
    assert np.abs(convert(turn, source, own, **known) - turn).max() < 1e-15
    move = np.array([[0.1, 0, 0, 0, 0, 0]])
    own = convention("delta", ("end_effector", "robot_base"), "current_state")
    assert np.abs(convert(move, source, own, **known) - move).max() < 1e-15


def test_differences_of_angles_are_those_of_the_other_frame() -> None:
    """Angles of a pose in the base are no turned angles of the world."""
    world = World(3)
    source = convention("delta", ("world", "world"), "current_state")
    facts = {**source.to_json(), "frame": "robot_base", "rotation": "euler_extrinsic_xyz"}
    target = Convention.from_json({**facts, "rotation_delta": "angle_difference"})
    found = world.convert(world.actions, source, target, "world")[:, 3:]
    goals = targets(world.actions, world.states, world.base, "delta", ("world", "world"), "current_state")
    turned = np.linalg.inv(world.base[:3, :3])
    now, then = (
        Rotation.from_matrix([turned @ pose[:3, :3] for pose in poses]).as_euler("xyz")
        for poses in (world.states, goals)
    )
    want = np.mod(then - now + np.pi, 2 * np.pi) - np.pi
    assert np.abs(found - want).max() < 1e-12


@pytest.mark.parametrize("axes", [("world", "robot_base"), ("robot_base", "world")])
def test_two_fixed_frames_at_once_are_refused(axes: tuple[str, str]) -> None:
    world = World(1)
    source = convention("delta", axes, "current_state")
    with pytest.raises(UsageError, match="one fixed frame of the source's translations and rotations"):
        world.convert(world.actions, source, convention("absolute", ("world", "world")), "world")
