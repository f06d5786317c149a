"""Prompts as numbers, by an explicit list of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vla_data.errors import DataError
from vla_data.safety.text import show


class Vocabulary:
    """The words that a policy knows; a word that it does not know is refused, and none shares its number.

    Args:
        words: different, lower-case words. Number 0 is no word.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._numbers = {word: number for number, word in enumerate(self.words, 1)}
        self._known: dict[str, list[int]] = {}
        if len(self._numbers) != len(self.words):
            raise ValueError("the vocabulary has a word twice")

    def __len__(self) -> int:
        return len(self.words) + 1

    @classmethod
    def of(cls, prompts: Iterable[str]) -> Vocabulary:
        """Every word of these prompts, sorted."""
        return cls(sorted({word for prompt in prompts for word in _split(prompt)}))

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """``(B, W)`` int64, padded with 0 to the longest prompt.

        Raises:
            DataError: E212, a word is unknown.
        """
        rows = [self._known.get(prompt) or self._read(prompt) for prompt in prompts]
        longest = max((len(row) for row in rows), default=0)
        return torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)

    def _read(self, prompt: str) -> list[int]:
        words = _split(prompt)
        unknown = [word for word in words if word not in self._numbers]
        if unknown:
            raise DataError(
                "E212", f"the policy was not trained on the word {show(unknown[0])!r} of {show(prompt)!r}"
            )
        self._known[prompt] = [self._numbers[word] for word in words]
        return self._known[prompt]


def _split(prompt: str) -> list[str]:
    return prompt.lower().split()
