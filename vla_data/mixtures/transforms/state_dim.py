"""States of any number of elements as states of one number."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from vla_data import options as checks
from vla_data.core import Array
from vla_data.errors import DataError, UsageError
from vla_data.mixtures.transforms.base import Batch, BatchTransform, Form, alike
from vla_data.safety.text import show

PADDINGS: Final = ("zero", "repeat_last", "mean")
TRUNCATIONS: Final = ("first", "last", "middle")
_STATE: Final = "observation.state"
_MASK: Final = "observation.state_mask"


@dataclass(frozen=True)
class StateDim(BatchTransform):
    """Brings ``observation.state`` to ``dim`` numbers; ``observation.state_mask`` says which of them it has.

    Only the elements that a row's dataset has count: what the mixture padded is taken off first. Put it after
    `Normalize`: padding with 0 is that of openpi then.

    Attributes:
        dim: numbers of a state.
        padding: what fills a shorter one up at its end: ``zero``; ``repeat_last``, its last element; ``mean``, the
            mean of its elements, for each observation.
        truncation: what stays of a longer one: its ``first``, ``last`` or ``middle`` elements (from
            ``(width - dim) // 2`` on). None: there is none, and a longer one is refused.

    Raises:
        UsageError: E001 for options that can't be.
    """

    dim: int
    padding: str = "zero"
    truncation: str | None = None

    def __post_init__(self) -> None:
        try:
            checks.whole("dim", self.dim, low=1, high=4096)
            checks.one_of("padding", self.padding, PADDINGS)
            if self.truncation is not None:
                checks.one_of("truncation", self.truncation, TRUNCATIONS)
        except ValueError as error:
            raise UsageError("E001", f"StateDim: {error}") from None

    def bind(self, form: Form) -> tuple[StateDim, Form]:
        """See `BatchTransform.bind`.

        Raises:
            UsageError: E232 for states that would be cut, where nobody said how.
        """
        for name, width in zip(form.names, form.states, strict=True):
            if width > self.dim and self.truncation is None:
                raise UsageError("E232", f"{show(name)} has {self._too_wide(width)}")
        return self, replace(form, states=tuple(min(width, self.dim) for width in form.states))

    def forward(self, batch: Batch, *, epoch: int = 0) -> dict[str, Any]:
        """See `BatchTransform.forward`.

        Raises:
            DataError: E203, a state is longer and there is no `truncation`.
        """
        del epoch
        out = dict(batch)
        if _STATE not in batch:
            return out
        states: Array = np.asarray(batch[_STATE])
        have = np.asarray(batch.get(_MASK, np.ones((len(states), states.shape[-1]), dtype=np.bool_)))
        made = np.zeros((*states.shape[:-1], self.dim), dtype=states.dtype)
        mask = np.zeros((len(states), self.dim), dtype=np.bool_)
        for rows, kind in alike(have):
            made[rows], mask[rows] = self._fitted(states[rows][..., kind])
        return out | {_STATE: made, _MASK: mask}

    def _fitted(self, states: Array) -> tuple[Array, Array]:
        """(n, ..., dim), and (dim,): which of its elements there are."""
        width = states.shape[-1]
        if width > self.dim:
            if self.truncation is None:
                raise DataError("E203", self._too_wide(width))
            start = {"first": 0, "last": width - self.dim, "middle": (width - self.dim) // 2}[self.truncation]
            states, width = states[..., start : start + self.dim], self.dim
        made = np.zeros((*states.shape[:-1], self.dim), dtype=states.dtype)
        made[..., :width] = states
        if width and self.padding == "repeat_last":
            made[..., width:] = states[..., -1:]
        elif width and self.padding == "mean":
            made[..., width:] = states.mean(axis=-1, keepdims=True, dtype=np.float64)
        return made, np.arange(self.dim) < width

    def _too_wide(self, width: int) -> str:
        return f"states of {width} numbers; say which {self.dim} stay: truncation = first, last or middle"
