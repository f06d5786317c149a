"""Rotations in every form that robot data comes in, all through unit quaternions.

Names of the representations (the values of ``rotation`` in a convention):

    rotvec            3: axis times angle (rad); LIBERO, robosuite
    quaternion_xyzw   4: SciPy, robosuite, RDT
    quaternion_wxyz   4: MuJoCo, SAPIEN, ManiSkill, pytorch3d
    6d_columns        6: the first two columns, one after the other: m00 m10 m20 m01 m11 m21; RDT
    6d_rows           6: the first two rows: m00 m01 m02 m10 m11 m12; pytorch3d
    6d_interleaved    6: the first two columns read row by row: m00 m01 m10 m11 m20 m21
    matrix            9: row by row
    euler_extrinsic_xyz, euler_intrinsic_xyz, ... 3: any of the twelve orders. Extrinsic angles turn about fixed
                      axes in the order named (SciPy's "xyz": R = Rz Ry Rx), intrinsic ones about the axes that
                      turn along (SciPy's "XYZ", pytorch3d's "XYZ": R = Rx Ry Rz)

Quaternions are float64 ``(..., 4)`` in the order xyzw inside this package. A product ``multiply(a, b)`` turns by
``b`` first, about the axes of the frame that ``a`` is expressed in.
"""

from __future__ import annotations

from itertools import permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError

Floats = NDArray[np.float64]

_ORDERS: Final = ["".join(order) for order in permutations("xyz")] + [a + b + a for a, b in permutations("xyz", 2)]

WIDTHS: Final[dict[str, int]] = {
    "rotvec": 3,
    "quaternion_xyzw": 4,
    "quaternion_wxyz": 4,
    "6d_columns": 6,
    "6d_rows": 6,
    "6d_interleaved": 6,
    "matrix": 9,
    **{f"euler_{how}_{order}": 3 for how in ("extrinsic", "intrinsic") for order in _ORDERS},
}
"""Representation -> how many numbers it takes."""

# Where the entries of the first two columns are in each 6-D form, as positions of m00 m10 m20 m01 m11 m21.
_SIX: Final = {
    "6d_columns": [0, 1, 2, 3, 4, 5],
    "6d_interleaved": [0, 2, 4, 1, 3, 5],
}

TINY: Final = 1e-8
"""Vectors that must have a direction and are shorter than this have none."""


def is_angles(representation: str) -> bool:
    """Whether the numbers are angles, which can be scaled, given in degrees, or divided by time."""
    return representation == "rotvec" or representation.startswith("euler_")


def to_quaternion(values: NDArray[Any], representation: str) -> Floats:
    """``(..., 4)`` unit quaternions, xyzw.

    Args:
        values: ``(..., width)``; angles in radians. Quaternions and 6-D columns need not be of unit length.
        representation: a key of `WIDTHS`.

    Raises:
        DataError: E202 for a quaternion, column or matrix that is no rotation.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape[-1:] != (WIDTHS[representation],):
        raise ValueError(f"{representation} takes {WIDTHS[representation]} numbers, not {values.shape}")
    if representation == "rotvec":
        angle = np.linalg.norm(values, axis=-1, keepdims=True)
        # np.sinc is sin(pi x) / (pi x), so this is sin(angle / 2) / angle, also at 0.
        return _unit(np.concatenate((0.5 * np.sinc(angle / (2 * np.pi)) * values, np.cos(angle / 2)), axis=-1))
    if representation.startswith("quaternion"):
        return _unit(values if representation.endswith("xyzw") else values[..., [1, 2, 3, 0]])
    if representation.startswith("euler"):
        return _from_euler(values, representation)
    if representation == "matrix":
        return _from_matrix(_checked_matrix(values.reshape(*values.shape[:-1], 3, 3)))
    if representation == "6d_rows":
        return inverse(_from_matrix(_gram_schmidt(values)))
    return _from_matrix(_gram_schmidt(values[..., _SIX[representation]]))


def from_quaternion(quaternion: Floats, representation: str) -> Floats:
    """``(..., width)`` values of unit quaternions, angles in radians.

    One of the many possible answers, always the same: rotation vectors up to pi long, quaternions with ``w`` of
    0 or more, Euler angles with the middle one in [-pi/2, pi/2] ([0, pi] for orders like zxz) and the first one 0
    in gimbal lock.
    """
    if representation == "rotvec":
        q = _canonical(quaternion)
        sine = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
        angle = 2 * np.arctan2(sine, q[..., 3:])
        # angle / sine is 1 / (0.5 sinc(angle / 2 pi)), which is exact where both are 0.
        return np.asarray(q[..., :3] / (0.5 * np.sinc(angle / (2 * np.pi))))
    if representation.startswith("quaternion"):
        q = _canonical(quaternion)
        return q if representation.endswith("xyzw") else q[..., [3, 0, 1, 2]]
    matrix = to_matrix(quaternion)
    if representation.startswith("euler"):
        return _to_euler(matrix, representation)
    flat = matrix.reshape(*matrix.shape[:-2], 9)
    if representation == "matrix":
        return flat
    if representation == "6d_rows":
        return np.asarray(flat[..., :6])
    six = flat[..., [0, 3, 6, 1, 4, 7]]
    return np.asarray(six[..., np.argsort(_SIX[representation])])


def convert_rotation(values: NDArray[Any], source: str, target: str) -> Floats:
    """``values`` of one representation in another, angles in radians. The same one is handed on as it is."""
    if source == target:
        return np.array(values, dtype=np.float64)
    return from_quaternion(to_quaternion(values, source), target)


def to_matrix(quaternion: Floats) -> Floats:
    """``(..., 3, 3)`` matrices of unit quaternions."""
    x, y, z, w = np.moveaxis(quaternion, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def multiply(a: Floats, b: Floats) -> Floats:
    """``(..., 4)``: first ``b``, then ``a``. Renormalised, so that long products stay rotations."""
    ax, ay, az, aw = np.moveaxis(a, -1, 0)
    bx, by, bz, bw = np.moveaxis(b, -1, 0)
    product = [
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    ]
    return _unit(np.stack(product, axis=-1))


def inverse(q: Floats) -> Floats:
    """The rotation back."""
    return np.asarray(q * np.array([-1.0, -1.0, -1.0, 1.0]))


def rotate(q: Floats, vector: Floats) -> Floats:
    """``(..., 3)``: the vector turned."""
    axis, w = q[..., :3], q[..., 3:]
    cross = 2 * np.cross(axis, vector)
    return np.asarray(vector + w * cross + np.cross(axis, cross))


def angle_between(a: Floats, b: Floats) -> Floats:
    """``(...,)`` radians in [0, pi]; q and -q are the same rotation."""
    between = multiply(a, inverse(b))
    return np.asarray(2 * np.arctan2(np.linalg.norm(between[..., :3], axis=-1), np.abs(between[..., 3])))


def slerp(a: Floats, b: Floats, share: NDArray[np.floating[Any]] | float) -> Floats:
    """The way from ``a`` to ``b`` at constant speed along the shorter arc: ``a`` at share 0, ``b`` at 1."""
    step = from_quaternion(multiply(b, inverse(a)), "rotvec")
    part = to_quaternion(step * np.asarray(share, dtype=np.float64)[..., None], "rotvec")
    return multiply(part, a)


def cumulative(steps: Floats, start: Floats, *, frame_turns: bool = False) -> Floats:
    """``(..., T, 4)``: the orientation after each step, from ``start`` ``(..., 4)``.

    Args:
        steps: ``(..., T, 4)`` rotations, each applied to the orientation before it.
        start: before the first step.
        frame_turns: steps are about the axes of what turns (a product from the right), not about fixed ones.
    """
    out = np.empty_like(steps)
    now = start
    for t in range(steps.shape[-2]):
        step = steps[..., t, :]
        now = multiply(now, step) if frame_turns else multiply(step, now)
        out[..., t, :] = now
    return out


def _unit(q: Floats) -> Floats:
    length = np.linalg.norm(q, axis=-1, keepdims=True)
    _refuse(~(length[..., 0] > TINY), "a quaternion is zero or not finite")
    return np.asarray(q / length)


def _canonical(q: Floats) -> Floats:
    """The one of q and -q with w > 0; with w = 0 the one whose first nonzero number is positive."""
    x, y, z, w = np.moveaxis(q, -1, 0)
    lead = np.where(w != 0, w, np.where(x != 0, x, np.where(y != 0, y, z)))
    # + 0.0 turns -0.0 into 0.0, so that equal rotations are equal bytes.
    return np.asarray(np.where(lead[..., None] < 0, -q, q) + 0.0)


def _from_matrix(matrix: Floats) -> Floats:
    """Shepperd's method: divide by the largest of the four components, which is never small."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    diagonal = np.stack([m[..., 0, 0], m[..., 1, 1], m[..., 2, 2], trace], axis=-1)
    largest = np.argmax(diagonal, axis=-1)
    off = [
        [1 + 2 * m[..., 0, 0] - trace, m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2]],
        [m[..., 1, 0] + m[..., 0, 1], 1 + 2 * m[..., 1, 1] - trace, m[..., 2, 1] + m[..., 1, 2]],
        [m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2], 1 + 2 * m[..., 2, 2] - trace],
    ]
    twist = [m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]]
    choices = np.stack(
        [np.stack([*off[i], twist[i]], axis=-1) for i in range(3)] + [np.stack([*twist, 1 + trace], axis=-1)],
        axis=-2,
    )
    return _unit(np.take_along_axis(choices, largest[..., None, None], axis=-2)[..., 0, :])


def _checked_matrix(matrix: Floats) -> Floats:
    off = np.abs(np.swapaxes(matrix, -1, -2) @ matrix - np.eye(3)).max(axis=(-1, -2))
    # 1e-3 lets pass what was stored in half precision and nothing that was scaled or sheared.
    _refuse(~(off <= 1e-3), "a matrix is not a rotation: its columns are not orthonormal")
    _refuse(np.linalg.det(matrix) < 0, "a matrix is a reflection, not a rotation")
    return matrix


def _gram_schmidt(six: Floats) -> Floats:
    """RDT's way back from 6-D: x along the first column, z across both, y across those."""

    def direction(vector: Floats) -> Floats:
        length = np.linalg.norm(vector, axis=-1, keepdims=True)
        _refuse(~(length[..., 0] > TINY), "a 6-D rotation has a zero column, or two along one line")
        return np.asarray(vector / length)

    x = direction(six[..., :3])
    z = direction(np.cross(x, direction(six[..., 3:])))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _refuse(bad: NDArray[np.bool_], message: str) -> None:
    if np.any(bad):
        where = np.argwhere(np.atleast_1d(bad))[0]
        row = int(where[0]) if len(where) == 1 else tuple(int(i) for i in where)
        raise DataError("E202", f"row {row}: {message}")


def _order(representation: str) -> tuple[tuple[int, int, int], bool]:
    """The axes as intrinsic ones, and whether the angles are listed the other way round (extrinsic)."""
    _, how, order = representation.split("_")
    axes = tuple("xyz".index(axis) for axis in order)
    if how == "extrinsic":
        axes = axes[::-1]
    return (axes[0], axes[1], axes[2]), how == "extrinsic"


def _from_euler(angles: Floats, representation: str) -> Floats:
    axes, flipped = _order(representation)
    angles = angles[..., ::-1] if flipped else angles
    out = np.zeros((*angles.shape[:-1], 4))
    out[..., 3] = 1.0
    for n, axis in enumerate(axes):
        turn = np.zeros_like(out)
        turn[..., axis] = np.sin(angles[..., n] / 2)
        turn[..., 3] = np.cos(angles[..., n] / 2)
        out = multiply(out, turn)
    return out


def _to_euler(m: Floats, representation: str) -> Floats:
    """Angles a, b, c with m = R_i(a) R_j(b) R_k(c).

    ``a`` and ``b`` are read off; ``c`` is what remains after ``a`` is undone, so that the three together give
    ``m`` also near gimbal lock, where ``a`` alone is ill-defined.
    """
    (i, j, last), flipped = _order(representation)
    k = 3 - i - j
    s = 1.0 if (j - i) % 3 == 1 else -1.0
    if last == k:  # three different axes
        sine, cosine = -s * m[..., j, k], m[..., k, k]
        b = np.arctan2(s * m[..., i, k], np.hypot(m[..., i, i], m[..., i, j]))
    else:  # i j i
        sine, cosine = m[..., j, i], -s * m[..., k, i]
        b = np.arctan2(np.hypot(m[..., j, i], m[..., k, i]), m[..., i, i])
    a = np.where(np.hypot(sine, cosine) < 1e-15, 0.0, np.arctan2(sine, cosine))
    ca, sa = np.cos(a), np.sin(a)
    if last == k:
        sin_c = s * (ca * m[..., j, i] + s * sa * m[..., k, i])
    else:
        sin_c = -s * (ca * m[..., j, k] + s * sa * m[..., k, k])
    c = np.arctan2(sin_c, ca * m[..., j, j] + s * sa * m[..., k, j])
    out = np.stack([c, b, a] if flipped else [a, b, c], axis=-1) + 0.0
    return np.asarray(out)
