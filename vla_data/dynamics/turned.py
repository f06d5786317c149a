"""Frames that are turned by any angle, and commanded poses that are not the poses that are measured.

* **Turned frames.** The model of `vla_data.dynamics.check` is fitted once with a full matrix in the place of each
  dimension's own factor. The rotation that is nearest to that matrix is the turn between the commands' axes and
  the motion's; turned by it, commands must explain the motion better, by Vuong's test and by the residual.
* **Offsets.** An arm that is told poses follows them with an error that grows with its speed. What is left of the
  error where it stands still, by least squares on its motion, is an offset between what is commanded and what is
  measured: another tool frame, flange for hand, or another zero of a joint. It is looked for in the axes of the
  base and in those of the end effector, and counts when it is larger than what gravity makes of any arm and than
  twice what the fit leaves unexplained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from vla_data.actions.rotations import Floats, from_quaternion, inverse, multiply, rotate, to_quaternion
from vla_data.core.findings import Finding
from vla_data.dynamics.fit import fit_motions, vuong
from vla_data.dynamics.report import CLEARLY, SURE

_SMALLEST: Final = np.deg2rad(12.0)
_SURELY: Final = SURE + 1.0
"""Standard errors; one more than usual, since the turn is looked for in the same steps."""
_FLOORS: Final = {"translation": 0.03, "rotation": 0.12, "joints": 0.1}
"""Metres, or radians, that real arms are off without anything being wrong."""
_TIMES: Final = 2.0
_ENOUGH: Final = 64
"""Steps from which on a turn is looked for; Vuong's test is one for many."""
_FEWEST: Final = 24
"""Steps from which on one is found that nobody can miss: twice the standard errors, and half the residual."""


def turned(name: str, commands: Sequence[Floats], motions: Sequence[Floats]) -> list[Finding]:
    """Whether three numbers of a motion follow their commands turned by an angle.

    Args:
        name: of the part.
        commands: ``(T, 3)`` an episode.
        motions: ``(S, 3)`` an episode.
    """
    turn = _turn(commands, motions)
    vector = from_quaternion(to_quaternion(turn.reshape(9), "matrix"), "rotvec")
    angle = float(np.linalg.norm(vector))
    if angle < _SMALLEST:
        return []
    declared = fit_motions(commands, motions, 0, reach=1).likelihood.sum(axis=1)
    other = fit_motions([c @ turn.T for c in commands], motions, 0, reach=1, forward=True).likelihood.sum(axis=1)
    if not clearly(declared, other, 3):
        return []
    errors = vuong(other - declared)
    axis = ", ".join(f"{x:.2f}" for x in vector / angle)
    message = (
        f"{name} follows its commands turned by {np.rad2deg(angle):.0f} degrees about ({axis}) better, by "
        f"{errors:.1f} standard errors: they are of another frame"
    )
    return [Finding(code="wrong_axes", message=message)]


def clearly(declared: Floats, other: Floats, dimensions: int) -> bool:
    """Whether likelihoods ``(n,)`` of steps are so much better than the declared ones that axes are wrong."""
    errors, times = vuong(other - declared), float(np.exp((other - declared).mean() / dimensions))
    if len(other) < _ENOUGH:
        return len(other) >= _FEWEST and errors >= 2 * _SURELY and times >= _TIMES
    return errors >= _SURELY and times >= CLEARLY


def offset(
    name: str, kind: str, errors: Sequence[Floats], motions: Sequence[Floats], poses: Sequence[Floats] | None
) -> list[Finding]:
    """Whether a part is commanded to be elsewhere than it is measured to stand.

    Args:
        name: of the part.
        kind: its quantity.
        errors: of each episode what is commanded less what is reached: ``(T, n)`` metres or radians; of rotations
            quaternions ``(T, 4)``, commanded times the inverse of reached.
        motions: ``(T, n)`` metres, radians, or rotation vectors that were moved to get there.
        poses: reached orientations ``(T, 4)``, where the error can be along the end effector's own axes.
    """
    moved = np.concatenate(motions)
    best: tuple[float, float, str] | None = None
    frames: list[tuple[str, Sequence[Floats]]] = [("", errors)]
    if poses is not None:
        back = [inverse(q) for q in poses]
        if kind == "rotation":
            own = [multiply(multiply(b, e), q) for b, e, q in zip(back, errors, poses, strict=True)]
        else:
            own = [rotate(b, e) for b, e in zip(back, errors, strict=True)]
        frames = [("base", errors), ("end effector", own)]
    for frame, found in frames:
        rows = np.concatenate(found)
        mean = _mean(rows) if kind == "rotation" else None
        rest = rows if mean is None else from_quaternion(multiply(inverse(mean), rows), "rotvec")
        still, left = _still(rest, moved)
        if mean is not None:
            still = from_quaternion(multiply(mean, to_quaternion(still, "rotvec")), "rotvec")
        size = float(np.linalg.norm(still)) if kind != "joints" else float(np.abs(still).max())
        if size > max(_FLOORS[kind], _TIMES * left) and (best is None or left < best[1]):
            best = size, left, frame
    if best is None:
        return []
    size, left, frame = best
    unit, axes = ("m" if kind == "translation" else "rad"), f" in the axes of the {frame}" if frame else ""
    message = f"{name} is commanded {size:.3g} {unit} away from where it stands still{axes} (all but {left:.2g})"
    return [Finding(code="wrong_offset", message=message)]


def _turn(commands: Sequence[Floats], motions: Sequence[Floats]) -> Floats:
    """The rotation matrix nearest to the one by which motions follow commands."""
    us, befores, vs = [], [], []
    for u, v in zip(commands, motions, strict=True):
        t = np.arange(1, min(len(u), len(v)))
        us.append(u[t])
        befores.append(v[t - 1])
        vs.append(v[t])
    x = np.concatenate((np.concatenate(us), np.concatenate(befores)), axis=1)
    if len(x) < x.shape[1]:
        return np.eye(3)
    matrix = np.linalg.lstsq(x, np.concatenate(vs), rcond=None)[0][:3].T
    left, _, right = np.linalg.svd(matrix)
    return np.asarray(left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right)


def _mean(rotations: Floats) -> Floats:
    """The quaternion nearest to all."""
    return np.asarray(np.linalg.eigh(rotations.T @ rotations)[1][:, -1])


def _still(errors: Floats, moved: Floats) -> tuple[Floats, float]:
    """The error where nothing moves, and the root mean square of what neither that nor the motion explains."""
    x = np.concatenate((np.ones((len(moved), 1)), moved), axis=1)
    found = np.linalg.lstsq(x, errors, rcond=None)[0]
    rest = errors - x @ found
    return found[0], float(np.sqrt((rest**2).sum(axis=1).mean()))
