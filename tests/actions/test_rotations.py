"""Every representation of a rotation against SciPy, at the places where formulas break."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_data.actions import rotations as rot
from vla_data.errors import DataError

PI = np.pi
EDGES = np.array(
    [
        [0, 0, 0],
        [PI, 0, 0],
        [0, -PI, 0],
        [0, 0, PI],
        [PI / np.sqrt(2), PI / np.sqrt(2), 0],
        [-PI / np.sqrt(3)] * 3,
        [PI / 2, 0, 0],
        [0, PI / 2, 0],
        [0, 0, -PI / 2],
        [1e-9, 0, 0],
        [0, 1e-200, 0],
        [PI - 1e-9, 0, 0],
        [0, 4.0, 0],  # LIBERO's quat2axisangle gives vectors longer than pi
        [3.1351, 0.0021, -0.0887],
        [2.0, -2.0, 0.5],
    ]
)
EULER = [name for name in rot.WIDTHS if name.startswith("euler")]
finite = st.floats(-10, 10, allow_nan=False, width=64)
vectors = st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=8).map(np.array)


def scipy_order(name: str) -> str:
    _, how, order = name.split("_")
    return order if how == "extrinsic" else order.upper()


def of_scipy(values: Any, name: str) -> np.ndarray[Any, Any]:
    """What SciPy makes of values of a representation, as matrices."""
    if name == "rotvec":
        return Rotation.from_rotvec(values).as_matrix()
    if name == "quaternion_xyzw":
        return Rotation.from_quat(values).as_matrix()
    if name == "quaternion_wxyz":
        return Rotation.from_quat(values, scalar_first=True).as_matrix()
    if name == "matrix":
        return values.reshape(-1, 3, 3)
    return Rotation.from_euler(scipy_order(name), values).as_matrix()


@pytest.mark.parametrize("name", [n for n in rot.WIDTHS if not n.startswith("6d")])
def test_values_mean_what_scipy_says(name: str) -> None:
    rng = np.random.default_rng(1)
    truth = Rotation.from_rotvec(np.concatenate([EDGES, rng.normal(size=(200, 3)) * 2]))
    quaternion = rot.to_quaternion(truth.as_rotvec(), "rotvec")
    values = rot.from_quaternion(quaternion, name)
    assert values.shape[-1] == rot.WIDTHS[name]
    assert np.abs(of_scipy(values, name) - truth.as_matrix()).max() < 1e-14
    assert np.abs(rot.to_matrix(rot.to_quaternion(values, name)) - truth.as_matrix()).max() < 1e-14


@pytest.mark.parametrize("name", EULER)
def test_gimbal_lock(name: str) -> None:
    """Exactly in it, and a hair beside it, where the first and third angle hardly differ in effect."""
    rng = np.random.default_rng(2)
    locked = [0.0, PI] if len(set(name[-3:])) == 2 else [PI / 2, -PI / 2]
    for beside in (0.0, 1e-16, 1e-12, 1e-9, 1e-6):
        angles = rng.uniform(-PI, PI, (60, 3))
        angles[:, 1] = rng.choice(locked, 60) + beside
        truth = Rotation.from_euler(scipy_order(name), angles).as_matrix()
        back = rot.from_quaternion(rot.to_quaternion(angles, name), name)
        again = Rotation.from_euler(scipy_order(name), back).as_matrix()
        assert np.abs(again - truth).max() < 1e-11


def test_angles_equal_scipys_away_from_gimbal_lock() -> None:
    rng = np.random.default_rng(3)
    angles = rng.uniform([-3, -1.5, -3], [3, 1.5, 3], (100, 3))
    quaternion = rot.to_quaternion(angles, "euler_extrinsic_xyz")
    assert np.abs(rot.from_quaternion(quaternion, "euler_extrinsic_xyz") - angles).max() < 1e-12


@given(vectors)
@example(np.array([[0.0, -1.0, 1e-12]]))  # a hair beside the gimbal lock of yxy
@example(np.array([[0.0, np.pi / 2, 1e-15]]))
def test_all_round_trips_keep_the_matrix(vector: np.ndarray[Any, Any]) -> None:
    """Property 13 of the plan: Euler, matrix, quaternion, axis-angle, 6-D."""
    truth = Rotation.from_rotvec(vector).as_matrix()
    quaternion = rot.to_quaternion(vector, "rotvec")
    for name in rot.WIDTHS:
        values = rot.from_quaternion(quaternion, name)
        assert np.abs(rot.to_matrix(rot.to_quaternion(values, name)) - truth).max() < 1e-12


@given(vectors)
def test_q_and_minus_q_are_one_rotation(vector: np.ndarray[Any, Any]) -> None:
    """Property 14: also for what is computed from them; unit length stays."""
    q = rot.to_quaternion(vector, "rotvec")
    assert np.abs(np.linalg.norm(q, axis=-1) - 1).max() < 1e-15
    assert rot.angle_between(q, -q).max() < 1e-15
    for name in rot.WIDTHS:
        assert np.array_equal(rot.from_quaternion(q, name), rot.from_quaternion(-q, name))
    assert (rot.from_quaternion(q, "quaternion_xyzw")[..., 3] >= 0).all()


def test_swapped_quaternion_order_is_another_rotation() -> None:
    q = rot.from_quaternion(rot.to_quaternion(np.array([0.1, 0.2, 0.3]), "rotvec"), "quaternion_wxyz")
    wrong = rot.to_quaternion(q, "quaternion_xyzw")
    assert rot.angle_between(wrong, rot.to_quaternion(q, "quaternion_wxyz")) > 2.7  # radians


@given(vectors, vectors, st.floats(0, 1))
def test_product_inverse_and_slerp_are_scipys(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], share: float
) -> None:
    n = min(len(a), len(b))
    one, other = Rotation.from_rotvec(a[:n]), Rotation.from_rotvec(b[:n])
    p, q = rot.to_quaternion(a[:n], "rotvec"), rot.to_quaternion(b[:n], "rotvec")
    assert np.abs(rot.to_matrix(rot.multiply(p, q)) - (one * other).as_matrix()).max() < 1e-13
    assert np.abs(rot.to_matrix(rot.inverse(p)) - one.inv().as_matrix()).max() < 1e-13
    assert np.abs(rot.rotate(p, b[:n]) - one.apply(b[:n])).max() < 1e-12
    between = rot.slerp(p, q, np.full(n, share))
    assert np.abs(np.linalg.norm(between, axis=-1) - 1).max() < 1e-14
    # SciPy's own path, except where both ways round are equally long.
    way = (other * one.inv()).as_rotvec()
    clear = np.linalg.norm(way, axis=1) < PI - 1e-6
    path = (Rotation.from_rotvec(share * way) * one).as_matrix()
    assert np.abs(rot.to_matrix(between) - path)[clear].max(initial=0) < 1e-12


def test_slerp_starts_and_ends_where_it_should() -> None:
    a, b = rot.to_quaternion(EDGES[5:7], "rotvec")
    ends = rot.slerp(np.stack([a, a]), np.stack([b, b]), np.array([0.0, 1.0]))
    assert rot.angle_between(ends, np.stack([a, b])).max() < 1e-15


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("euler_extrinsic_xyz", [0.93629336, 0.28962948, -0.19866933, -0.27509585, 0.95642509, 0.0978434]),
        ("rotvec", [0.9357548, 0.30293271, -0.18054008, -0.28316496, 0.95058062, 0.12733457]),
        ("euler_intrinsic_xyz", [0.93629336, 0.31299183, -0.15934508, -0.28962948, 0.94470249, 0.153792]),
    ],
)
def test_worked_numbers_of_rdts_six(name: str, expected: list[float]) -> None:
    """(0.1, 0.2, 0.3) by three dialects; RDT's own is the first (docs/test_6drot.py)."""
    values = rot.convert_rotation(np.array([0.1, 0.2, 0.3]), name, "6d_columns")
    assert np.abs(values - expected).max() < 5e-9
    assert np.abs(rot.convert_rotation(values, "6d_columns", name) - [0.1, 0.2, 0.3]).max() < 1e-15


def test_the_other_six_numbers() -> None:
    angles = np.array([0.1, 0.2, 0.3])
    interleaved = rot.convert_rotation(angles, "euler_extrinsic_xyz", "6d_interleaved")
    rows = rot.convert_rotation(angles, "euler_extrinsic_xyz", "6d_rows")
    expected = [0.93629336, -0.27509585, 0.28962948, 0.95642509, -0.19866933, 0.0978434]
    assert np.abs(interleaved - expected).max() < 5e-9
    assert np.abs(rows - [0.93629336, -0.27509585, 0.21835066, 0.28962948, 0.95642509, -0.03695701]).max() < 5e-9
    quaternion = rot.convert_rotation(angles, "euler_extrinsic_xyz", "quaternion_xyzw")
    assert np.abs(quaternion - [0.0342708, 0.10602051, 0.14357218, 0.98334744]).max() < 5e-9


def test_six_numbers_need_not_be_of_unit_length() -> None:
    six = rot.convert_rotation(np.array([0.1, 0.2, 0.3]), "rotvec", "6d_columns")
    scaled = six * [2, 2, 2, 0.3, 0.3, 0.3]
    assert np.abs(rot.convert_rotation(scaled, "6d_columns", "rotvec") - [0.1, 0.2, 0.3]).max() < 1e-15


def test_angles_that_have_another_spelling() -> None:
    values = rot.from_quaternion(
        rot.to_quaternion(np.array([2.5, -1.9, 3.0]), "euler_extrinsic_xyz"), "euler_extrinsic_xyz"
    )
    assert np.abs(values - [-0.64159265, -1.24159265, -0.14159265]).max() < 5e-9


def test_libero_state_read_as_rotation_vector_and_as_euler_angles() -> None:
    state = np.array([3.1351, 0.0021, -0.0887])
    right = [0.99839946, 0.00119047, -0.05654295, 0.00148671, -0.99998539, 0.00519743]
    wrong = [0.99606654, -0.08858354, -0.0021, -0.08856829, -0.99604895, 0.00649259]
    assert np.abs(rot.convert_rotation(state, "rotvec", "6d_columns") - right).max() < 1e-8
    assert np.abs(rot.convert_rotation(state, "euler_extrinsic_xyz", "6d_columns") - wrong).max() < 1e-8


@pytest.mark.parametrize(
    ("values", "name", "message"),
    [
        ([[0, 0, 0, 1], [0, 0, 0, 0]], "quaternion_xyzw", "row 1: a quaternion is zero"),
        ([[0.0] * 6], "6d_columns", "row 0: a 6-D rotation has a zero column"),
        ([[1, 0, 0, 2, 0, 0]], "6d_columns", "two along one line"),
        ([[1, 0, 0, 0, 1, 0, 0, 0, -1]], "matrix", "reflection"),
        ([[2, 0, 0, 0, 2, 0, 0, 0, 2]], "matrix", "not orthonormal"),
        ([[np.nan, 0, 0]], "rotvec", "not finite"),
    ],
)
def test_what_is_no_rotation_is_refused(values: Any, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rot.to_quaternion(np.array(values, dtype=float), name)


def test_tiny_rotations_keep_their_relative_precision() -> None:
    tiny = np.array([[1e-12, -2e-12, 3e-12], [1e-300, 0, 0]])
    back = rot.from_quaternion(rot.to_quaternion(tiny, "rotvec"), "rotvec")
    assert np.abs(back - tiny).max() <= 1e-27
    assert back[1, 0] == 1e-300


@pytest.mark.parametrize("axis", [[1.0, 0, 0, 0], [0, -1.0, 0, 0], [0, 0.6, -0.8, 0]])
def test_half_turns_have_one_spelling(axis: list[float]) -> None:
    """Where w is 0, the sign of q is decided by what comes before it."""
    q = np.array(axis)
    for name in ("rotvec", "quaternion_xyzw", "quaternion_wxyz"):
        assert np.array_equal(rot.from_quaternion(q, name), rot.from_quaternion(-q, name))
