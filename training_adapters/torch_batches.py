"""Batches of a mixture as PyTorch tensors, through PyTorch's own ``DataLoader`` and its worker processes.

    loader = TorchLoader(Loader(open_mixture("mixture.toml"), batch_size=32), workers=4)
    for batch in loader:
        loss = model(batch["observation.images.front"].cuda(non_blocking=True), ...)

The stream is that of the `Loader`: worker ``k`` of ``K`` makes every ``K``-th batch, and ``DataLoader`` takes them
in turn, so that their order does not depend on ``K``. The state counts what was handed out, not what workers have
made ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vla_data.core import Json
from vla_data.mixtures import Batch, Loader

TorchBatch = dict[str, Any]
"""As `vla_data.mixtures.Batch`, with tensors for arrays; ``task`` stays a list of texts."""


def to_torch(batch: Batch) -> TorchBatch:
    """The same batch with tensors that share its memory; arrays of texts become lists."""
    out: TorchBatch = {}
    for name, value in batch.items():
        if isinstance(value, list):
            out[name] = value
        else:
            out[name] = value.tolist() if value.dtype.hasobject else torch.from_numpy(value)
    return out


class Epoch(IterableDataset[TorchBatch]):  # type: ignore[misc,unused-ignore]
    """The rest of an epoch, from batch ``start`` on; each worker process makes its share."""

    def __init__(self, loader: Loader, *, epoch: int, start: int) -> None:
        self._loader = loader
        self._epoch = epoch
        self._start = start

    def __iter__(self) -> Iterator[TorchBatch]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for number in range(self._start + first, len(self._loader), step):
            yield to_torch(self._loader.make(self._epoch, number))


class TorchLoader:
    """A `Loader` whose batches are tensors. Iterating goes on from where the last one stopped.

    Args:
        loader: what to load. Its own threads are not used.
        workers: processes; 0: none.
        pin_memory: put tensors where they get to a GPU faster.
        context: how processes start, ``spawn`` or ``forkserver``: forks of a process with threads may hang.
    """

    def __init__(
        self, loader: Loader, *, workers: int = 0, pin_memory: bool = False, context: str = "spawn"
    ) -> None:
        self._loader = loader
        self._workers = workers
        self._pin_memory = pin_memory
        self._context = context

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[TorchBatch]:
        """The rest of this epoch."""
        epoch, start = self._loader.epoch, self._loader.number
        batches = DataLoader(
            Epoch(self._loader, epoch=epoch, start=start),
            batch_size=None,
            num_workers=self._workers,
            pin_memory=self._pin_memory,
            multiprocessing_context=self._context if self._workers else None,
        )
        for number, batch in enumerate(batches, start):
            self._loader.advance(epoch, number)
            yield batch
        self._loader.end_epoch()

    def state_dict(self) -> dict[str, Json]:
        """See `Loader.state_dict`."""
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)
