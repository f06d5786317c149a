"""What is wrong with data for RDT, exactly: beside the numbers that the source at hand leads to.

The same as `converters.rdt.bugs` finds, ``euler_action``, and the factor of a wrong scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from converters.rdt.bugs import GRIPPER, LARGEST_STEP, POSITION, ROTATION, UNIT, Bug, Floats, Pair, off_rotation
from converters.rdt.vectors import Vectors
from vla_data.actions.rotations import angle_between, convert_rotation, to_quaternion
from vla_data.core import Episode


def compare(pairs: Sequence[Pair], truth: Sequence[Vectors], episodes: Sequence[Episode]) -> list[Bug]:
    """What the numbers show beside those that the source leads to, episode by episode.

    Args:
        pairs: state and action ``(T, 128)`` of each episode, of whatever dataset is judged; its layout is
            ``pose_delta``.
        truth: of the same episodes, from `converters.rdt.vectors.vectors`.
        episodes: the same, as the source has them.
    """
    bugs: dict[str, Bug] = {}
    for (state, action), want, episode in zip(pairs, truth, episodes, strict=True):
        for bug in _beside(state, action, want, episode):
            bugs.setdefault(bug.code, bug)
    return list(bugs.values())


def _beside(state: Floats, action: Floats, want: Vectors, episode: Episode) -> Iterator[Bug]:
    """One episode beside what it must be. Its rows may begin earlier or later than ours."""
    at_state = _offset(state[:, POSITION], want.state[:, POSITION])
    at_action = _offset(_direction(action[:, POSITION]), _direction(want.action[:, POSITION]))
    if at_state is None or at_action is None:
        return
    if at_action != at_state:
        text = f"state t belongs to action t{at_action - at_state:+d}: it is of after action t, not of before"
        yield Bug(code="observation_shift", message=text)
    rows = np.arange(len(want.state))
    i = rows[(rows + at_state >= 0) & (rows + at_state < len(state))]
    j = rows[(rows + at_action >= 0) & (rows + at_action < len(action))]
    s, a = state[i + at_state], action[j + at_action]
    right = want.action[j]
    order = _order(a[:, POSITION], right[:, POSITION])
    if order != (0, 1, 2):
        listed = " ".join("xyz"[axis] for axis in order)
        yield Bug(code="wrong_axes", message=f"action: x y z are the {listed} that are commanded")
    right_moves = right[:, POSITION][:, order]
    scale = _scale(a[:, POSITION], right_moves)
    if scale is not None and abs(scale - 1) > 1e-3:
        per = scale * 0.05 if want.source.controller is None else scale * want.source.controller.translation_scale
        text = f"action: moves are {scale:.4g} times the metres that are commanded ({per:.4g} for an input of 1)"
        yield Bug(code="wrong_unit" if abs(per) > LARGEST_STEP else "wrong_scale", message=text)
    same = np.abs(a[:, GRIPPER] - right[:, GRIPPER]).max() < 1e-6
    if not same and np.abs(1 - a[:, GRIPPER] - right[:, GRIPPER]).max() < 1e-6:
        yield Bug(code="inverted_gripper", message="action: gripper_open is 1 where the gripper is told to close")
    yield from _euler("state", s[:, ROTATION], _wrong_state(episode, want)[i], want.state[i, ROTATION])
    yield from _euler("action", a[:, ROTATION], _wrong_action(episode, want)[j], right[:, ROTATION])


def _wrong_state(episode: Episode, want: Vectors) -> Floats:
    """A vector and its longer twin are one rotation, but two triples of angles: the source's own numbers count."""
    vector = np.asarray(episode.arrays.get("observation.ee_ori", ()), dtype=np.float64)
    if vector.shape != (len(want.state), 3):
        vector = convert_rotation(want.state[:, ROTATION], "6d_columns", "rotvec")
    return convert_rotation(vector, "euler_extrinsic_xyz", "6d_columns")


def _wrong_action(episode: Episode, want: Vectors) -> Floats:
    raw = np.asarray(episode.arrays["action"], dtype=np.float64)
    controller = want.source.controller
    scale = 1.0 if controller is None else controller.rotation_scale
    angles = np.clip(raw[:, list(want.source.layout["rotation"])], -1, 1) * scale
    return convert_rotation(angles, "euler_extrinsic_xyz", "6d_columns")


def _euler(part: str, found: Floats, wrong: Floats, right: Floats) -> Iterator[Bug]:
    """Whether rotations are those of the wrong reading and not of the right one."""
    if not found.any() or off_rotation(found) > UNIT or np.abs(found - right).max() < 1e-5:
        return
    as_is = angle_between(to_quaternion(found, "6d_columns"), to_quaternion(right, "6d_columns"))
    as_euler = angle_between(to_quaternion(found, "6d_columns"), to_quaternion(wrong, "6d_columns"))
    if np.median(as_euler) < 0.1 * np.median(as_is):
        text = f"{part}: a rotation vector was read as Euler angles; off by up to {as_is.max():.3g} rad"
        yield Bug(code=f"euler_{part}", message=text)


def _direction(moves: Floats) -> Floats:
    size = float(np.sqrt((moves**2).mean()))
    return moves / size if size > 0 else moves


def _offset(rows: Floats, want: Floats) -> int | None:
    """The row of ``rows`` that is the first of ``want``, from -1 (which was cut off) to 2; None: they are too few.

    Moves may be of the other sign.
    """
    best: tuple[float, int] | None = None
    for at in range(-1, 3):
        mine, theirs = rows[max(at, 0) :], want[max(-at, 0) :]
        n = min(len(mine), len(theirs))
        if n >= max(4, min(len(rows), len(want)) // 2):
            off = min(float(np.abs(sign * mine[:n] - theirs[:n]).mean()) for sign in (1, -1))
            best = min(best or (off, at), (off, at))
    return None if best is None else best[1]


def _order(found: Floats, want: Floats) -> tuple[int, ...]:
    """The axes of ``want`` that those of ``found`` are, scale apart; as they should be where no order is exact."""
    size = float(np.abs(found).max())
    for order in permutations(range(3)):
        moves = want[:, order]
        scale = _scale(found, moves)
        if scale and np.abs(found - scale * moves).max() < 1e-6 * size:
            return order
    return 0, 1, 2


def _scale(found: Floats, want: Floats) -> float | None:
    size = float((want * want).sum())
    return float((found * want).sum()) / size if size > 0 else None
