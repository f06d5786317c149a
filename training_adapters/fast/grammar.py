"""Which tokens may come next so that a chunk of FAST tokens ends with exactly ``H * D`` numbers.

A number is a code point, a token a few bytes of UTF-8, which may end within a code point. So the state is how many
numbers are complete, and what the open one still needs (the byte ranges of RFC 3629, section 4). A token may come
where its bytes continue the code point, do not go beyond ``H * D`` numbers, and leave a way to the end. The end
token may come when all numbers are there, and only then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

FORBIDDEN: Final = -1

# What the next byte may be, by what is open: (first, last, what is open after it).
_OPEN: Final = (
    (
        *((0x00, 0x7F, 0), (0xC2, 0xDF, 1), (0xE0, 0xE0, 4), (0xE1, 0xEC, 2), (0xED, 0xED, 5)),
        *((0xEE, 0xEF, 2), (0xF0, 0xF0, 6), (0xF1, 0xF3, 3), (0xF4, 0xF4, 7)),
    ),
    ((0x80, 0xBF, 0),),
    ((0x80, 0xBF, 1),),
    ((0x80, 0xBF, 2),),
    ((0xA0, 0xBF, 1),),
    ((0x80, 0x9F, 1),),
    ((0x90, 0xBF, 2),),
    ((0x80, 0x8F, 2),),
)


class Grammar:
    """The states of a chunk that is being written, and what each token makes of them.

    State 0 is the empty chunk, the last one is the chunk after its end token. Token ``len(tokens)`` is the end.

    Args:
        tokens: the bytes of each token; None for one that stands for nothing.
        numbers: ``H * D``.

    Attributes:
        next: ``(states, tokens + 1)`` int32: the state after a token, or `FORBIDDEN`.
        count: ``(states,)`` int64: numbers that are complete in a state.
        longest: the most tokens that a chunk can have, with its end.

    Raises:
        ValueError: the tokens cannot make so many numbers.
    """

    def __init__(self, tokens: Sequence[bytes | None], numbers: int) -> None:
        if numbers < 1:
            raise ValueError(f"a chunk has {numbers} numbers; it has at least 1")
        after, made = _moves(tokens)
        states, end = (numbers + 1) * len(_OPEN) + 1, (numbers + 1) * len(_OPEN)
        table = np.full((states, len(tokens) + 1), FORBIDDEN, dtype=np.int64)
        for count in range(numbers + 1):
            for opened in range(len(_OPEN)):
                total = count + made[opened]
                # A code point that is open needs room for itself.
                fits = (after[opened] >= 0) & (total + (after[opened] > 0) <= numbers)
                row = np.where(fits, total * len(_OPEN) + after[opened], FORBIDDEN)
                table[count * len(_OPEN) + opened, : len(tokens)] = row
        table[numbers * len(_OPEN), len(tokens)] = end
        kept = _useful(table, end)
        if not kept[0]:
            raise ValueError(f"no sequence of these tokens makes {numbers} numbers")
        renamed = np.full(states + 1, FORBIDDEN, dtype=np.int64)
        renamed[:-1][kept] = np.arange(kept.sum())
        self.next: NDArray[np.int32] = renamed[table[kept]].astype(np.int32)
        self.count: NDArray[np.int64] = np.append(np.repeat(np.arange(numbers + 1), len(_OPEN)), numbers)[kept]
        self.longest = _longest(self.next)

    @property
    def end_token(self) -> int:
        """The id of the token that ends a chunk."""
        return int(self.next.shape[1]) - 1

    def follow(self, ids: Sequence[int]) -> int:
        """The state after these tokens, or `FORBIDDEN`."""
        state = 0
        for token in ids:
            state = int(self.next[state, token]) if 0 <= token < self.next.shape[1] else FORBIDDEN
            if state == FORBIDDEN:
                return FORBIDDEN
        return state

    def whole(self, ids: Sequence[int]) -> bool:
        """Whether these tokens are a chunk from its beginning to its end token."""
        return self.follow(ids) == len(self.next) - 1


def _moves(tokens: Sequence[bytes | None]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What is open after each token (-1: impossible) and the numbers it completes, by what was open before."""
    after = np.full((len(_OPEN), len(tokens)), FORBIDDEN, dtype=np.int64)
    made = np.zeros_like(after)
    for token, data in enumerate(tokens):
        for before in range(len(_OPEN)) if data else ():
            opened = before
            for byte in data or b"":
                opened = next((to for low, high, to in _OPEN[opened] if low <= byte <= high), FORBIDDEN)
                if opened == FORBIDDEN:
                    break
                made[before, token] += opened == 0
            after[before, token] = opened
    return after, made


def _useful(table: NDArray[np.int64], end: int) -> NDArray[np.bool_]:
    """The states that a chunk can be in and still end; forbids, in place, what leads out of them."""
    ends = np.zeros(len(table) + 1, dtype=np.bool_)  # the last entry is what FORBIDDEN, -1, indexes
    ends[end] = True
    # Every token adds numbers or bytes of the open one, so states are reached in rising order of count and need.
    while True:
        more = ends[:-1] | ends[table].any(axis=1)
        if (more == ends[:-1]).all():
            break
        ends[:-1] = more
    table[~ends[table]] = FORBIDDEN
    reached = np.zeros(len(table), dtype=np.bool_)
    reached[0] = True
    waiting = [0]
    while waiting:
        for state in np.unique(table[waiting.pop()]):
            if state != FORBIDDEN and not reached[state]:
                reached[state] = True
                waiting.append(int(state))
    return reached & ends[:-1]


def _longest(table: NDArray[np.int32]) -> int:
    """The longest path from the first state to the last; no token leads back, so there is one."""
    depth = np.full(len(table), -1)
    depth[-1] = 0
    while depth[0] < 0 or (depth < 0).any():
        for state in np.flatnonzero(depth < 0)[::-1]:
            steps = table[state][table[state] >= 0]
            if len(steps) and (depth[steps] >= 0).all():
                depth[state] = 1 + int(depth[steps].max())
    return int(depth[0])
