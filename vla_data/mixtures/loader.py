"""Batches in the order of the stream, made ahead by threads, with a state that goes on where it stopped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from vla_data import options as checks
from vla_data.core import Array, Json
from vla_data.errors import UsageError
from vla_data.mixtures.mixture import Batch, Mixture
from vla_data.mixtures.sampling import Plan
from vla_data.mixtures.transforms.base import BatchTransform, Chain, Datasets

_VERSION: Final = 1


class Loader:
    """Batches of a mixture, for one rank of a training; iterating goes on from where the last one stopped.

        loader = Loader(open_mixture("mixture.toml"), batch_size=32, workers=2)
        for batch in loader:                   # one epoch; the next ``for`` is the next one
            train(batch)
            save(loader.state_dict())

    Which frames a batch has depends on the configuration, the seed, the epoch and the number of the batch alone:
    not on workers, and not on how it was reached. The state counts global batches, so ranks that are at the same
    step have the same state, and any rank goes on from any rank's. With ``last="short"`` a rank may have no part
    in an epoch's last global batch: after its own last one it is still in that epoch, which ends with its ``for``.

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
        transforms: what is done to each batch, one or several in order; see `vla_data.mixtures.transforms`.

    Attributes:
        mixture: what it draws from.
        plan: which frames are in which batch.
        transforms: for this mixture, as one.
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
        transforms: BatchTransform | Sequence[BatchTransform] = (),
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
        given = (transforms,) if isinstance(transforms, BatchTransform) else tuple(transforms)
        self.transforms = Chain(given).bind(mixture.form)[0]
        self._epoch = 0
        self._batch = 0

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.plan)

    @property
    def epoch(self) -> int:
        """The epoch that the next global batch is of."""
        return self._epoch

    @property
    def number(self) -> int:
        """The next global batch in it; ``len(loader)`` where that has nothing for this rank."""
        return self._batch

    def __iter__(self) -> Iterator[Batch]:
        """The rest of this epoch."""
        epoch = self._epoch
        for number, batch in self.made():
            # Before it is handed out: whoever saves the state after training on a batch goes on with the next.
            self.advance(epoch, number)
            yield batch
        self.end_epoch()

    def make(self, epoch: int, number: int) -> Batch:
        """Batch ``number`` of an epoch, at once."""
        if not 0 <= number < len(self) or epoch < 0:
            raise UsageError("E001", f"there is no batch {number} of epoch {epoch}; an epoch has {len(self)}")
        return self.transforms.forward(self.mixture.batch(epoch, self.plan.positions(number)), epoch=epoch)

    def example(self) -> Batch:
        """A batch of one frame, for its names, shapes and dtypes."""
        dataset = next(number for number, member in enumerate(self.mixture.members) if member.frames)
        return self.transforms.forward(self.mixture.gather([dataset], [0]))

    def inverse(self, actions: Any, *, dataset: Datasets = None) -> Array:
        """What predicted actions ``(..., A)`` were before the transforms, those in reverse.

        Args:
            actions: of the network.
            dataset: whose they are: a name, or a batch's ``dataset_index``; see
                `vla_data.mixtures.transforms.BatchTransform.inverse`.
        """
        return self.transforms.inverse(actions, dataset=dataset)

    def made(self) -> Iterator[tuple[int, Batch]]:
        """The rest of this epoch with its batches' numbers; not counted as handed out, which is `advance`'s."""
        epoch, numbers = self._epoch, range(self._batch, len(self))
        if self._workers == 0:
            for number in numbers:
                yield number, self.make(epoch, number)
            return
        waiting: deque[tuple[int, Future[Batch]]] = deque()
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="vla-data-batch")
        try:
            for number in numbers:
                waiting.append((number, pool.submit(self.make, epoch, number)))
                if len(waiting) >= self._workers * self._ahead:
                    first, batch = waiting.popleft()
                    yield first, batch.result()
            while waiting:
                first, batch = waiting.popleft()
                yield first, batch.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def advance(self, epoch: int, number: int) -> None:
        """Go on after this batch, for who hands batches of `make` or `made` out himself."""
        self._epoch, self._batch = epoch, number + 1
        if self._batch == self.plan.global_batches:
            self._epoch, self._batch = epoch + 1, 0

    def end_epoch(self) -> None:
        """Go on with the next epoch if this one has nothing more for this rank; where it has, nothing happens."""
        if self._batch == len(self):
            self._epoch, self._batch = self._epoch + 1, 0

    def state_dict(self) -> dict[str, Json]:
        """Where the stream is: plain JSON, the same for all ranks that are at the same step."""
        return {"version": _VERSION, "epoch": self._epoch, "batch": self._batch, "digest": self._digest}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Raises:
            UsageError: E301 when it is of another stream: other episodes, weights, seed or global batch.
        """
        keys = {"version", "epoch", "batch", "digest"}
        if set(state) != keys or state["version"] != _VERSION:
            raise UsageError("E301", f"this is not a loader's state of version {_VERSION}")
        if state["digest"] != self._digest:
            raise UsageError("E301", "the state was saved with other episodes, weights, seed or batch size")
        try:
            epoch = checks.whole("epoch", state["epoch"], low=0, high=2**32 - 1)
            batch = checks.whole("batch", state["batch"], low=0, high=self.plan.global_batches - 1)
        except ValueError as error:
            raise UsageError("E301", str(error)) from None
        self._epoch, self._batch = epoch, batch

    @property
    def _digest(self) -> str:
        return self.plan.digest(self.mixture.identity)
