"""Batches in the order of the stream, made ahead by threads, with a state that goes on where it stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from vla_data import checks
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.mixtures.mixture import Batch, Mixture
from vla_data.mixtures.sampling import Plan

_VERSION: Final = 1


class Loader:
    """Batches of a mixture, for one rank of a training; iterating goes on from where the last one stopped.

        loader = Loader(open_mixture("mixture.toml"), batch_size=32, workers=2)
        for batch in loader:                   # one epoch; the next ``for`` is the next one
            train(batch)
            save(loader.state_dict())

    Which frames a batch has depends on the configuration, the seed, the epoch and the number of the batch alone:
    not on workers, and not on how it was reached.

    Args:
        mixture: what to draw from.
        batch_size: frames of a batch.
        rank: this process, from 0.
        world_size: processes that train together; with equal ``batch_size * world_size`` a stream is the same for
            any number of them.
        last: what becomes of an epoch's end that fills no global batch: ``drop``, ``short`` or ``wrap``; see
            `vla_data.mixtures.Plan`.
        workers: threads that make batches; decoding images leaves Python to the others. 0: none.
        ahead: batches that each of them is ahead.
    """

    def __init__(
        self,
        mixture: Mixture,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        last: str = "drop",
        workers: int = 0,
        ahead: int = 2,
    ) -> None:
        try:
            self.plan = Plan(
                sampling=mixture.sampling, batch_size=batch_size, rank=rank, world_size=world_size, last=last
            )
            self._workers = checks.whole("workers", workers, low=0, high=1024)
            self._ahead = checks.whole("ahead", ahead, low=1, high=1024)
        except ValueError as error:
            raise UsageError("E001", str(error)) from None
        self.mixture = mixture
        self._epoch = 0
        self._batch = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.plan)

    @property
    def epoch(self) -> int:
        """The epoch that the next batch is of."""
        return self._epoch

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch."""
        for batch in self._made():
            # Before it is handed out: whoever saves the state after training on a batch goes on with the next.
            self.advance()
            yield batch

    def make(self, epoch: int, number: int) -> Batch:
        """Batch ``number`` of an epoch, at once."""
        if not 0 <= number < len(self) or epoch < 0:
            raise UsageError("E001", f"there is no batch {number} of epoch {epoch}; an epoch has {len(self)}")
        return self.mixture.batch(epoch, self.plan.positions(number))

    def advance(self) -> None:
        """Count a batch as handed out, for who makes batches himself with `make`."""
        self._batch += 1
        if self._batch == len(self):
            self._epoch, self._batch = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Json]:
        """Where the stream is: plain JSON, the same for all ranks."""
        return {"version": _VERSION, "epoch": self._epoch, "batch": self._batch, "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            UsageError: E301 when it is of another stream: other episodes, weights, seed or global batch.
        """
        keys = {"version", "epoch", "batch", "digest"}
        if set(state) != keys or state["version"] != _VERSION:
            raise UsageError("E301", f"this is no state of version {_VERSION}")
        if state["digest"] != self._digest:
            raise UsageError("E301", "the state is of another stream: other episodes, weights, seed or batch size")
        try:
            epoch = checks.whole("epoch", state["epoch"], low=0, high=2**32 - 1)
            batch = checks.whole("batch", state["batch"], low=0, high=max(len(self) - 1, 0))
        except ValueError as error:
            raise UsageError("E301", str(error)) from None
        self._epoch, self._batch = epoch, batch

    @property
    def _digest(self) -> str:
        return self.plan.digest(self.mixture.identity)

    def _made(self) -> Iterator[Batch]:
        epoch, numbers = self._epoch, iter(range(self._batch, len(self)))
        if self._workers == 0:
            for number in numbers:
                yield self.make(epoch, number)
            return
        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="vla-data-batch")
        try:
            for number in numbers:
                waiting.append(pool.submit(self.make, epoch, number))
                if len(waiting) >= self._workers * self._ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
