"""Starts that a policy has solved, which are not played for a while."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

MOST: Final = 100
"""Results that are remembered of a start."""

PLAY, SKIP, AGAIN = "play", "skip", "again"


class Skips:
    """What is remembered of each start.

    A start whose last ``solved`` rollouts all succeeded is skipped ``threshold`` times; then what is known of it
    is forgotten, so that it is played again. A start of which nothing is known is played.

    Args:
        solved: successes in a row that solve a start, at least 1; a group's size.
        threshold: how often it is skipped then.

    Attributes:
        history: init_hash -> its results, the last ones.
        skipped: init_hash -> how often in a row.
    """

    def __init__(self, *, solved: int, threshold: int) -> None:
        if solved < 1 or threshold < 0:
            raise ValueError(f"solved is {solved} and threshold {threshold}; they are at least 1 and 0")
        self._solved, self._threshold = solved, threshold
        self.history: dict[str, list[bool]] = {}
        self.skipped: dict[str, int] = {}

    def decide(self, init_hash: str) -> str:
        """``play``, ``skip``, or ``again``: play, and forget what was. Nothing is noted yet."""
        last = self.history.get(init_hash, [])[-self._solved :]
        if len(last) < self._solved or not all(last):
            return PLAY
        return SKIP if self.skipped.get(init_hash, 0) < self._threshold else AGAIN

    def note(
        self, results: Mapping[str, Iterable[bool]], *, skipped: Iterable[str] = (), again: Iterable[str] = ()
    ) -> None:
        """What became of the starts that were decided on.

        Args:
            results: init_hash -> of the rollouts that were played from it.
            skipped: that were skipped.
            again: that are to be forgotten first.
        """
        for init_hash in again:
            self.history.pop(init_hash, None)
            self.skipped.pop(init_hash, None)
        for init_hash in skipped:
            self.skipped[init_hash] = self.skipped.get(init_hash, 0) + 1
        for init_hash, new in results.items():
            told = [*self.history.get(init_hash, []), *map(bool, new)]
            self.history[init_hash] = told[-MOST:]
