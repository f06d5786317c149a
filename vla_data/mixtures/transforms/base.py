"""What a transform of batches is, and several of them as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Array
from vla_data.errors import UsageError
from vla_data.safety.text import show

Batch = Mapping[str, Any]
"""As of `vla_data.mixtures.Mixture.gather`; at inference it may have observations alone."""

Datasets = str | int | Sequence[int] | NDArray[np.int64] | None
"""Of which dataset actions are: its name or number, for all or (numbers) for each row; None where that is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What a transform can know before the first batch.

    Attributes:
        names: of the datasets, in the order of ``dataset_index``.
        states: numbers of a state of each; 0 where it has none.
        actions: numbers of an action of each; 0 where it has no frames.
        columns: what batches have beside images, states, actions and texts: extras and annotations.
    """

    names: tuple[str, ...]
    states: tuple[int, ...]
    actions: tuple[int, ...]
    columns: frozenset[str] = frozenset()


class BatchTransform:
    """One thing that is done to batches. Subclasses override what they need.

    A transform is pickled into worker processes, and keeps no state between batches: what is drawn by chance comes
    from a seed, the epoch and the frame's own numbers, so a resumed run and any number of workers get the same.
    """

    def bind(self, form: Form) -> tuple[BatchTransform, Form]:
        """The same for batches of a form, and the form of what it makes of them.

        Raises:
            UsageError: it can't be done to such batches.
        """
        return self, form

    def forward(self, batch: Batch, *, epoch: int = 0) -> dict[str, Any]:
        """The batch as the network gets it: a new dictionary, whose changed arrays are new ones."""
        del epoch
        return dict(batch)

    def inverse(self, actions: Any, *, dataset: Datasets = None) -> Array:
        """What predicted actions ``(..., A)`` were before `forward`.

        Args:
            actions: of the network, anything that NumPy makes an array of.
            dataset: whose they are; with a number for each of ``B`` rows, actions are ``(B, ..., A)``.
        """
        del dataset
        return np.asarray(actions)


@dataclass(frozen=True)
class Chain(BatchTransform):
    """Transforms, one after the other; the way back in reverse.

    Attributes:
        steps: in the order of `forward`.

    Raises:
        UsageError: E001 for a step that is none.
    """

    steps: tuple[BatchTransform, ...] = ()

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, BatchTransform):
                raise UsageError("E001", f"{show(type(step).__name__)} in transforms is not a BatchTransform")

    def bind(self, form: Form) -> tuple[Chain, Form]:
        """See `BatchTransform.bind`."""
        bound: list[BatchTransform] = []
        for step in self.steps:
            made, form = step.bind(form)
            bound.append(made)
        return Chain(tuple(bound)), form

    def forward(self, batch: Batch, *, epoch: int = 0) -> dict[str, Any]:
        """See `BatchTransform.forward`."""
        out = dict(batch)
        for step in self.steps:
            out = step.forward(out, epoch=epoch)
        return out

    def inverse(self, actions: Any, *, dataset: Datasets = None) -> Array:
        """See `BatchTransform.inverse`."""
        out = np.asarray(actions)
        for step in reversed(self.steps):
            out = step.inverse(out, dataset=dataset)
        return out


def alike(mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """The rows of a mask (B, D) that are alike, and what they are: at most a few, as datasets are."""
    kinds, which = np.unique(mask, axis=0, return_inverse=True)
    for number, kind in enumerate(kinds):
        yield np.flatnonzero(which.reshape(-1) == number), kind
