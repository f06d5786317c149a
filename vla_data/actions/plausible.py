"""Whether numbers can be what is declared of them: metres, radians, an input of a controller, a rotation.

Only what no robot does is told, so most wrong units pass: see `vla_data.dynamics` for what the motion says.
Steps of a metre, angles of more than two turns, quaternions of another length than 1 are in another unit, or in
other places of the vector, and the next conversion would make of them what looks right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.agreement import spans
from vla_data.actions.convention import UNDECLARED, Convention, quantity
from vla_data.actions.rotations import is_angles
from vla_data.actions.units import METRES, beyond_ends
from vla_data.errors import UsageError

Floats = NDArray[np.float64]

_METRES: Final[Mapping[str, float]] = {"delta": 1.0, "velocity": 20.0, "absolute": 200.0, UNDECLARED: 200.0}
"""Kind -> metres that no arm moves in a step, or in a second, or is away; copies of a scene lie side by side."""
_JOINTS: Final[Mapping[str, float]] = {
    "delta": np.pi,
    "velocity": 100.0,
    "absolute": 4 * np.pi,
    UNDECLARED: 4 * np.pi,
}
_ANGLES: Final[Mapping[str, float]] = {**_JOINTS, "absolute": 4 * np.pi}
_PER: Final[Mapping[str, str]] = {"delta": " in a step", "velocity": " a second"}
_ROUNDING: Final = 1.01
_NEAR: Final = 0.02
"""Metres from the origin within which no arm stays whose positions are declared in centimetres or millimetres."""
_LENGTH: Final = 0.05
"""How far a quaternion, or a column of a rotation, may be off length 1 or a right angle."""
_OFTEN: Final = 0.25
_FAR: Final = 10.0
_HOLDS: Final = 0.1
_MANY: Final = 4


def implausible(
    values: NDArray[Any], facts: Mapping[str, Any] | Convention | None, *, rows: bool = True
) -> list[str]:
    """What numbers can't be though it is declared of them, a phrase each, the same for every such episode.

    Args:
        values: ``(T, D)``.
        facts: their convention, as stored; what is no convention says nothing here.
        rows: whether ``values`` are vectors; else only the least and the largest of each number.
    """
    if not facts or values.ndim != 2 or not len(values) or values.dtype.kind not in "fiub":
        return []
    try:
        convention = facts if isinstance(facts, Convention) else Convention.from_json(facts)
    except UsageError:
        return []
    if not convention.layout or convention.width > values.shape[1]:
        return []
    out = []
    for name, positions in convention.layout.items():
        judge = _JUDGES.get(quantity(name))
        if judge is None:
            continue
        part = values[:, list(positions)].astype(np.float64)
        if not np.isfinite(part).all():
            continue  # refused, or kept, elsewhere
        out += [f"{spans(positions)} {said}" for said in judge(part, convention, rows)]
    return out


def _translation(part: Floats, convention: Convention, rows: bool) -> Iterator[str]:
    unit, kind = convention.translation_unit, convention.kind
    if unit == "controller":
        yield from _input(part, convention, "translation", rows)
    elif unit in METRES:
        size = float(np.abs(part).max()) * METRES[unit]
        if size > _METRES[kind]:
            yield f"declared in {unit}, {_is(kind)}more than {_METRES[kind]:g} m{_PER.get(kind, '')}"
        elif unit != "m" and kind == "absolute" and 0 < size < _NEAR:
            yield f"declared in {unit}, never more than {_NEAR:g} m from the origin"


def _rotation(part: Floats, convention: Convention, rows: bool) -> Iterator[str]:
    form, unit, kind = convention.rotation, convention.rotation_unit, convention.kind
    if form == UNDECLARED:
        return
    if not is_angles(form):
        if rows and _off(part, form) > _LENGTH:
            yield f"declared as {form}, which numbers of other lengths or angles are not"
        return
    if unit == "controller":
        yield from _input(part, convention, "rotation", rows)
        return
    limit = _ANGLES[kind]
    if kind == "delta" and convention.rotation_delta == "angle_difference":
        limit = 2 * np.pi  # from one end of an angle's range to the other
    yield from _turns(part, unit, limit, kind)
    size = float(np.abs(part).max())
    if unit == "deg" and kind == "absolute" and 3.0 < size < np.pi * _ROUNDING:
        yield "declared in deg, never more than pi"


def _joints(part: Floats, convention: Convention, rows: bool) -> Iterator[str]:
    unit, kind = convention.joint_unit, convention.kind
    yield from _turns(part, unit, _JOINTS[kind], kind)
    size = float(np.abs(part).max())
    if unit == "deg" and kind == "absolute" and part.shape[1] >= _MANY and 0.5 < size < np.pi * _ROUNDING:
        yield "declared in deg, never more than pi"


def _gripper(part: Floats, convention: Convention, rows: bool) -> Iterator[str]:
    opened, closed = convention.gripper_open, convention.gripper_closed
    if opened is None or closed is None:
        return
    # Of commands that nobody calls positions the ends are told all the same; a direction has any size.
    if convention.gripper_control == UNDECLARED:
        convention = replace(convention, gripper_control="position")
    if beyond_ends(part, convention).any():
        yield f"declared open at {opened:g} and closed at {closed:g}, and far beyond"
    signs = set(np.sign(part).astype(int).ravel().tolist())
    held = float((part == 0).mean())
    if rows and convention.gripper_control == "direction" and len(signs) == 2 and 0 in signs and held >= _HOLDS:
        yield "declared a direction, of which 0 holds and one is never commanded"


def _turns(part: Floats, unit: str, limit: float, kind: str) -> Iterator[str]:
    if unit not in ("rad", "deg"):
        return
    size = float(np.abs(part).max())
    if (size if unit == "rad" else np.deg2rad(size)) > limit * _ROUNDING:
        yield f"declared in {unit}, {_is(kind)}more than {limit:.3g} rad{_PER.get(kind, '')}"


def _input(part: Floats, convention: Convention, what: str, rows: bool) -> Iterator[str]:
    known = convention.controller
    how = "none" if known is None else known.translation_clip if what == "translation" else known.rotation_clip
    if how == "none":
        return
    size = np.abs(part).max(axis=1)
    often = rows and float((size > _ROUNDING).mean()) > _OFTEN
    if often or float(size.max()) > _FAR:
        yield "declared a controller's input, which ends at 1, and beyond it"


def _is(kind: str) -> str:
    return f"kind {kind}, " if kind != UNDECLARED else ""


def _off(part: Floats, form: str) -> float:
    """How far numbers are from those of a rotation that is no angles."""
    if form.startswith("quaternion"):
        return float(np.abs(np.linalg.norm(part, axis=1) - 1).max())
    if form == "matrix":
        m = part.reshape(-1, 3, 3)
        return float(np.abs(np.swapaxes(m, 1, 2) @ m - np.eye(3)).max())
    pairs = part.reshape(-1, 3, 2) if form == "6d_interleaved" else np.swapaxes(part.reshape(-1, 2, 3), 1, 2)
    return float(np.abs(np.swapaxes(pairs, 1, 2) @ pairs - np.eye(2)).max())


_JUDGES: Final[Mapping[str, Callable[[Floats, Convention, bool], Iterator[str]]]] = {
    "translation": _translation,
    "rotation": _rotation,
    "joints": _joints,
    "gripper": _gripper,
}


def unlike_numbers(
    ranges: Mapping[str, tuple[Sequence[float], Sequence[float]]], known: Sequence[bool]
) -> list[str]:
    """In what numbers of several datasets differ too much to be in one unit, where nobody says in which.

    Args:
        ranges: dataset -> the least and the largest of each number.
        known: of each number, whether all declare what it means.
    """
    out: dict[str, list[int]] = {}
    widths = {len(low) for low, _ in ranges.values()}
    if len(ranges) < 2 or len(widths) != 1:
        return []
    for at in range(widths.pop()):
        if at < len(known) and known[at]:
            continue
        ends = {name: (low[at], high[at]) for name, (low, high) in ranges.items() if low[at] < high[at]}
        if len(ends) < 2:
            continue
        sizes = {name: max(abs(low), abs(high)) for name, (low, high) in ends.items()}
        least, most = min(sizes, key=lambda n: sizes[n]), max(sizes, key=lambda n: sizes[n])
        if sizes[most] > _FAR * sizes[least]:
            out.setdefault(f"is far larger in {most} than in {least}", []).append(at)
            continue
        flags = {name: pair for name, pair in ends.items() if pair in _FLAGS}
        if len(set(flags.values())) > 1:
            said = ", ".join(f"{low:g} to {high:g} in {name}" for name, (low, high) in flags.items())
            out.setdefault(f"is {said}", []).append(at)
    return [f"{spans(places)} {said}" for said, places in out.items()]


_FLAGS: Final = frozenset({(0.0, 1.0), (-1.0, 1.0), (-1.0, 0.0), (0.0, 100.0), (0.0, 255.0)})
"""Ranges of what only has two ends, as grippers are stored."""
