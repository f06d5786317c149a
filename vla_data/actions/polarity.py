"""Which way a gripper goes, where nobody declares it: by what recorded states do when its command changes.

A number of an action that is nearly always at one of two ends is commanded as grippers are. A number of the state
that holds still until that command changes, and then goes one way each time and the other way each time it changes
back, is moved by it: heights and poses are not, since an arm lifts after it closed and after it opened. Whether
that number grows as the gripper opens is known where it is declared. Where it is not, two datasets whose same
number goes unlike ways are not alike, and of anything else nothing is said but that it is undeclared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data.actions.agreement import Elements, spans
from vla_data.actions.rotations import Floats

_NEAR: Final = 0.05
"""Of the way between the ends, what counts as one of them."""
_HELD: Final = 0.95
"""Share of the steps that are at an end."""
_AFTER: Final = 5
"""Steps in which a gripper begins to move."""
_SWITCHES: Final = 3
"""That are needed each way."""
_MOST: Final = 1_000
_SURE: Final = 0.9
"""Share of the switches after which a number goes the same way."""
_STILL: Final = 0.25
"""Of the way that a number goes after a switch, what it may go before."""


class Polarity:
    """What one dataset shows; `add` its episodes."""

    def __init__(self) -> None:
        self._out: set[int] = set()
        self._two: set[int] = set()
        self._moves: dict[tuple[int, bool], list[tuple[Floats, Floats]]] = {}

    def add(self, actions: Floats, states: Floats) -> None:
        """One more episode: ``(T, A)``, and the states before each action, ``(T, S)``; ``S`` may be 0."""
        low, high = actions.min(axis=0), actions.max(axis=0)
        moves = high > low
        way = np.where(moves, high - low, 1.0)
        at = (actions - low) / way
        held = ((at <= _NEAR) | (at >= 1 - _NEAR)).mean(axis=0)
        self._out |= set(np.flatnonzero(moves & (held < _HELD)).tolist())
        for number in set(np.flatnonzero(moves & (held >= _HELD)).tolist()) - self._out:
            self._two.add(number)
            self._switch(number, at[:, number] > 1 / 2, states)

    def _switch(self, number: int, is_high: NDArray[np.bool_], states: Floats) -> None:
        changes = np.flatnonzero(np.diff(is_high)) + 1
        edges = [0, *changes.tolist(), len(states) - 1]
        for before, now, after in zip(edges, edges[1:], edges[2:], strict=False):
            kept = self._moves.setdefault((number, bool(is_high[now])), [])
            back, on = min(_AFTER, now - before), min(_AFTER, after - now)
            if back and on and len(kept) < _MOST:
                kept.append((states[now + on] - states[now], states[now] - states[now - back]))

    @property
    def two_ended(self) -> set[int]:
        """Numbers of the action that are commanded as grippers are."""
        return self._two - self._out

    def shown(self, number: int) -> Mapping[int, int]:
        """Number of the state that a number of the action moves -> 1 where it grows as that does, else -1."""
        up, down = (self._moves.get((number, way), []) for way in (True, False))
        if min(len(up), len(down)) < _SWITCHES:
            return {}
        out = {}
        rises, falls = (np.array([after for after, _ in moves]) for moves in (up, down))
        before = np.array([before for moves in (up, down) for _, before in moves])
        for at in range(rises.shape[1]):
            after = np.r_[rises[:, at], -falls[:, at]]
            still = np.median(np.abs(before[:, at])) <= _STILL * np.median(np.abs(after))
            for sign in (1, -1):
                same = min(float((sign * one > 0).mean()) for one in (rises[:, at], -falls[:, at]))
                if same >= _SURE and still:
                    out[at] = sign
        return out


def doubts(
    shown: Mapping[str, Polarity], actions: Mapping[str, Elements], states: Mapping[str, Elements]
) -> list[str]:
    """What is to be said of numbers that are commanded as grippers are and that not all datasets declare.

    Args:
        shown: dataset -> what its episodes show.
        actions: dataset -> what the numbers of its actions mean.
        states: the same of its states.
    """
    if len(shown) < 2:
        return []
    out = []
    for number in sorted(set.intersection(*(one.two_ended for one in shown.values()))):
        if all(number < len(meaning) and meaning[number] is not None for meaning in actions.values()):
            continue
        moved = {name: one.shown(number) for name, one in shown.items()}
        opens = {name: way for name, one in moved.items() if (way := _opens(one, states[name]))}
        rest = {name: one for name, one in moved.items() if name not in opens}
        which = f"action {spans([number])}"
        if len(set(opens.values())) > 1:
            high, low = (_names(opens, way) for way in (1, -1))
            out.append(f"{which} opens the gripper in {high} and closes it in {low}, by their recorded states")
        elif (apart := _apart(rest)) is not None:
            at, up, down = apart
            grows = f"state {spans([at])} grow in {up} and shrink in {down}"
            out.append(f"{which} makes {grows}: the one or the other is the other way round")
        elif rest and (opens or not set.intersection(*map(set, rest.values()))):
            silent = " and ".join(rest)
            out.append(f"{which} has two ends, as a gripper's, and nothing shows which one opens it in {silent}")
    return out


def _names(ways: Mapping[str, int], way: int) -> str:
    return " and ".join(name for name, found in ways.items() if found == way)


def _opens(moved: Mapping[int, int], meaning: Elements) -> int:
    """1 where the larger number opens the gripper, -1 where the smaller one does; 0 where states do not say."""
    found = set()
    for at, sign in moved.items():
        element = meaning[at] if at < len(meaning) else None
        facts = element.facts if element is not None and element.quantity == "gripper" else {}
        opened, closed = facts.get("gripper_open"), facts.get("gripper_closed")
        if isinstance(opened, int | float) and isinstance(closed, int | float) and opened != closed:
            found.add(sign if opened > closed else -sign)
    return found.pop() if len(found) == 1 else 0


def _apart(moved: Mapping[str, Mapping[int, int]]) -> tuple[int, str, str] | None:
    """A number of the state that goes unlike ways in several datasets, and in which it goes which."""
    for at in sorted({at for one in moved.values() for at in one}):
        ways = {name: one.get(at, 0) for name, one in moved.items()}
        if {1, -1} <= set(ways.values()):
            return at, _names(ways, 1), _names(ways, -1)
    return None
