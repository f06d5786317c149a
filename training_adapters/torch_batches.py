"""Batches of a mixture as PyTorch tensors, through PyTorch's own ``DataLoader`` and its worker processes.

    loader = TorchLoader(Loader(open_mixture("mixture.toml"), batch_size=32), workers=4)
    for batch in loader:
        loss = model(batch["observation.images.front"].cuda(non_blocking=True), ...)

No ``if __name__ == "__main__"`` guard is needed: workers do not run the script again. So what they need must be
in a module of its own: a transform that the script itself defines is refused (E001).

The stream is that of the `Loader`, its transforms included: worker ``k`` of ``K`` makes every ``K``-th batch, and
``DataLoader`` takes them in turn, so that their order does not depend on ``K``. The state counts what was handed
out, not what workers have made ahead.
"""

from __future__ import annotations

import multiprocessing.context
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vla_data import options as checks
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.jobs.process import Process, without_main
from vla_data.mixtures import Batch, Loader
from vla_data.mixtures.transforms.base import Datasets
from vla_data.safety.text import show

TorchBatch = dict[str, Any]
"""As `vla_data.mixtures.Batch`, with tensors for arrays; ``task`` stays a list of texts."""


class _Spawned(multiprocessing.context.SpawnContext):
    Process = Process


class _ForkServerProcess(multiprocessing.context.ForkServerProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name that multiprocessing looks for
        with without_main():
            return multiprocessing.context.ForkServerProcess._Popen(process_obj)


class _ForkServed(multiprocessing.context.ForkServerContext):
    Process = _ForkServerProcess


_CONTEXTS: Final[Mapping[str, Callable[[], multiprocessing.context.BaseContext]]] = {
    "fork": multiprocessing.context.ForkContext,
    "forkserver": _ForkServed,
    "spawn": _Spawned,
}


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
        try:
            checks.whole("workers", workers, low=0, high=1024)
            checks.one_of("context", context, tuple(_CONTEXTS))
        except ValueError as error:
            raise UsageError("E001", str(error)) from None
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
            multiprocessing_context=_CONTEXTS[self._context]() if self._workers else None,
        )
        if self._workers and self._context != "fork":
            _check_travels(self._loader)
        for number, batch in enumerate(batches, start):
            self._loader.advance(epoch, number)
            yield batch
        self._loader.end_epoch()

    def inverse(self, actions: torch.Tensor, *, dataset: Datasets | torch.Tensor = None) -> torch.Tensor:
        """See `Loader.inverse`; a tensor of the same device, of float32 where it was shorter."""
        plain = actions.detach().cpu()
        plain = plain if plain.dtype in (torch.float32, torch.float64) else plain.float()
        numbers = dataset.cpu().numpy() if isinstance(dataset, torch.Tensor) else dataset
        return torch.from_numpy(self._loader.inverse(plain.numpy(), dataset=numbers)).to(actions.device)

    def state_dict(self) -> dict[str, Json]:
        """See `Loader.state_dict`."""
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Loader.load_state_dict`."""
        self._loader.load_state_dict(state)


def _check_travels(loader: Loader) -> None:
    """That workers, which do not run the script, can import all that the loader needs.

    Raises:
        UsageError: E001, a transform is defined in the script or in a function.
    """
    for step in loader.transforms.steps:
        try:
            with without_main():
                pickle.dumps(step)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            kind = type(step).__name__
            raise UsageError(
                "E001",
                f"workers can't import what transform {kind} needs ({show(error)}): put it into a module of its "
                "own, or take workers = 0",
            ) from None
