"""Whether numbers of two declared meanings may be subtracted from each other, or stand beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from vla_data.actions.convention import UNDECLARED, Convention, arm, quantity
from vla_data.actions.rotations import is_angles

_MOVES: Final = ("translation", "rotation", "joints")
_TURN: Final = {"rad": 6.283185307179586, "deg": 360.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Element:
    """What one number of a vector means.

    Attributes:
        part: of the layout, such as ``left_gripper``.
        place: of the number in its part.
        facts: name -> value of what must be alike for two such numbers to be alike; undeclared ones are left out.
    """

    part: str
    place: int
    facts: Mapping[str, object]

    @property
    def quantity(self) -> str:
        """See `vla_data.actions.convention.quantity`."""
        return quantity(self.part)

    @property
    def turn(self) -> float:
        """A whole turn in the unit of an Euler angle; 0 for every other number."""
        if self.quantity != "rotation" or not str(self.facts.get("rotation", "")).startswith("euler"):
            return 0.0
        return _TURN.get(str(self.facts.get("rotation_unit")), 0.0)


Elements = Sequence[Element | None]
"""Of each number of a vector; None where nothing is declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why a subtraction may not be what is meant.

    Attributes:
        certain: whether the declared facts contradict it.
        message: a sentence without a full stop.
    """

    certain: bool
    message: str


def elements(convention: Convention | None, width: int) -> Elements:
    """What each of ``width`` numbers means."""
    out: list[Element | None] = [None] * width
    for name, positions in () if convention is None else convention.layout.items():
        facts = _facts(convention, quantity(name)) if convention is not None else {}
        for place, position in enumerate(positions):
            if position < width:
                out[position] = Element(part=name, place=place, facts=facts)
    return out


def subtraction(
    action: Elements, state: Elements, pairs: Iterable[tuple[int, int]], *, wraps: bool = False
) -> list[Doubt]:
    """What speaks against subtracting numbers of a state from those of an action, one by one.

    Args:
        action: what its numbers mean.
        state: the same of the state.
        pairs: (position in the action, position in the state).
        wraps: differences of angles are taken the short way round.
    """
    certain: dict[str, list[int]] = {}
    doubts: dict[str, list[int]] = {}
    for a, s in pairs:
        one = action[a] if a < len(action) else None
        other = state[s] if s < len(state) else None
        kind = "absolute" if one is not None and one.quantity == "gripper" else one and one.facts.get("kind")
        if one is None or kind is None:
            doubts.setdefault("are taken for positions; their kind is undeclared", []).append(a)
            continue
        if kind != "absolute":
            what = "deltas of deltas" if kind == "delta" else "a velocity less a position"
            certain.setdefault(f"are declared as kind {kind}, so a state subtracted makes {what}", []).append(a)
            continue
        if other is not None and (why := _unlike(one, other)):
            certain.setdefault(f"and the numbers of the state that are subtracted are unlike: {why}", []).append(a)
        if one.quantity == "rotation" and not (wraps and one.turn):
            form = one.facts.get("rotation", "a rotation")
            how = "differences of angles jump by a turn" if one.turn else "that is no rotation"
            doubts.setdefault(f"are {form}, subtracted number by number: {how}", []).append(a)
    return [
        Doubt(certain=sure, message=f"action {spans(places)} {text}")
        for sure, found in ((True, certain), (False, doubts))
        for text, places in found.items()
    ]


def differences(meanings: Mapping[str, Elements]) -> list[str]:
    """In what the vectors of several datasets differ, a sentence a fact.

    A fact that some declare and others don't is one; what nobody declares is not.

    Args:
        meanings: dataset -> what its numbers mean.
    """
    meanings = {name: meaning for name, meaning in meanings.items() if len(meaning)}
    declared = [name for name, meaning in meanings.items() if any(meaning)]
    silent = [name for name in meanings if name not in declared]
    out = [f"what {' and '.join(declared)} declare is undeclared in {' and '.join(silent)}"] if silent else []
    if len(declared) < 2:
        return out if declared else []
    parts: dict[str, dict[str, Element]] = {}
    for name in declared:
        for element in meanings[name]:
            if element is not None and element.quantity != "other":
                parts.setdefault(element.part, {}).setdefault(name, element)
    texts: dict[str, list[str]] = {}
    for part, have in parts.items():
        for fact in sorted({fact for element in have.values() for fact in element.facts}):
            values: dict[object, list[str]] = {}
            for name, element in have.items():
                values.setdefault(element.facts.get(fact, UNDECLARED), []).append(name)
            if len(values) > 1:
                said = ", ".join(f"{value} in {' and '.join(names)}" for value, names in values.items())
                texts.setdefault(f"{fact} is {said}", []).append(part)
    out += [f"{', '.join(found)}: {text}" for text, found in texts.items()]
    places = {tuple(None if e is None else (e.part, e.place) for e in meanings[name]) for name in declared}
    if len(places) > 1:
        out.append("the same numbers are of other parts in " + " and ".join(declared))
    return out


def spans(numbers: Sequence[int]) -> str:
    """``(0, 1, 2, 6)`` -> ``[0-2,6]``."""
    out: list[list[int]] = []
    for n in sorted(numbers):
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return "[" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in out) + "]"


def _facts(convention: Convention, what: str) -> dict[str, object]:
    facts: dict[str, object] = {}
    motion = convention.kind not in ("absolute", UNDECLARED)
    if what in _MOVES:
        facts["kind"] = convention.kind
        if motion:
            facts |= {"reference": convention.reference, "control_rate": convention.control_rate}
    if what == "translation":
        facts |= {"frame": convention.frame, "translation_unit": convention.translation_unit}
        if convention.translation_unit == "controller" and convention.controller is not None:
            facts["translation_scale"] = convention.controller.translation_scale
    elif what == "rotation":
        facts |= {"frame": convention.rotation_frame or convention.frame, "rotation": convention.rotation}
        if motion and convention.rotation_delta == "angle_difference":
            facts["rotation_delta"] = convention.rotation_delta
        if convention.rotation == UNDECLARED or is_angles(convention.rotation):
            facts["rotation_unit"] = convention.rotation_unit
            if convention.rotation_unit == "controller" and convention.controller is not None:
                facts["rotation_scale"] = convention.controller.rotation_scale
    elif what == "joints":
        facts["joint_unit"] = convention.joint_unit
    elif what == "gripper":
        facts |= {
            name: getattr(convention, name) for name in ("gripper_control", "gripper_open", "gripper_closed")
        }
    return {name: value for name, value in facts.items() if value is not None and value != UNDECLARED}


def _unlike(one: Element, other: Element) -> str:
    """In what two numbers certainly differ; empty where they may be alike."""
    if "other" in (one.quantity, other.quantity):
        return ""
    if (one.quantity, arm(one.part), one.place) != (other.quantity, arm(other.part), other.place):
        return f"{one.part} and {other.part}" if one.part != other.part else f"other numbers of {one.part}"
    both = [fact for fact in one.facts if fact in other.facts and one.facts[fact] != other.facts[fact]]
    return ", ".join(f"{fact} is {one.facts[fact]} and {other.facts[fact]}" for fact in both)
