"""Which frame is at which position of the stream: weights, orders, batches and shards.

The stream is one for all ranks and any number of workers. Global batch ``n`` of an epoch has positions ``n G`` to
``(n + 1) G`` where ``G = batch_size * world_size``, and rank ``r`` takes its ``r``-th part: together the ranks
have each position once.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vla_data import options as checks
from vla_data.core import Json
from vla_data.errors import UsageError
from vla_data.mixtures import philox

Positions = NDArray[np.int64]

ORDERS: Final = ("draw", "shuffle", "sequential")
WEIGHTINGS: Final = ("frames", "datasets", "temperature")
LASTS: Final = ("drop", "short", "wrap")


def shares(
    frames: tuple[int, ...],
    *,
    weights: tuple[float, ...] | None = None,
    weighting: str = "frames",
    temperature: float = 1.0,
) -> tuple[float, ...]:
    """The probability of each dataset, of which those without frames get none.

    Args:
        frames: of each dataset.
        weights: by dataset, of any sum, as RECAP's ``weights``: a frame of dataset d has probability
            ``weights[d] / sum(weights) / frames[d]``.
        weighting: without weights: ``frames`` (all frames alike), ``datasets`` (all datasets alike) or
            ``temperature``.
        temperature: T of ``frames ** (1 / T)``: 1 is ``frames``, infinity would be ``datasets``.

    Raises:
        UsageError: E001 when the weights are not as many as the datasets, or nothing is left.
    """
    sizes = np.asarray(frames, dtype=np.float64)
    if weights is not None:
        if len(weights) != len(frames):
            raise UsageError("E001", f"there are {len(weights)} weights for {len(frames)} datasets")
        wanted = np.asarray(weights, dtype=np.float64)
    elif weighting == "datasets":
        wanted = np.ones(len(frames))
    else:
        with np.errstate(over="ignore"):
            wanted = sizes ** (1 / temperature if weighting == "temperature" else 1.0)
        if not np.isfinite(wanted.sum()):  # of the largest, the others are a share
            wanted = (sizes / sizes.max()) ** (1 / temperature)
    wanted = np.where(sizes > 0, wanted, 0.0)
    with np.errstate(over="ignore"):
        whole = wanted.sum()
    if not np.isfinite(whole):
        wanted = wanted / wanted.max()
    if not wanted.sum() > 0:
        raise UsageError("E001", "no dataset has both frames and a weight above 0")
    return tuple((wanted / wanted.sum()).tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """The stream of frames, each epoch anew.

    Attributes:
        frames: of each dataset.
        shares: the probability of each dataset.
        seed: of everything random, below 2**64.
        order: ``draw`` takes a dataset by its share, then one of its frames, each as likely, with replacement;
            ``shuffle`` has each frame of each epoch once; ``sequential`` too, in order. The last two know no
            weights.
        epoch_frames: positions of an epoch; None: as many as there are frames.
    """

    frames: tuple[int, ...]
    shares: tuple[float, ...]
    seed: int = 0
    order: str = "draw"
    epoch_frames: int | None = None

    def __post_init__(self) -> None:
        checks.whole("seed", self.seed, low=0, high=2**64 - 1)
        checks.one_of("order", self.order, ORDERS)
        if self.epoch_frames is not None:
            checks.whole("epoch_frames", self.epoch_frames, low=1, high=2**63 - 1)
            if self.order != "draw":
                raise ValueError(f"epoch_frames works with order draw only; {self.order} has each frame once")
        if self.order != "draw" and not np.allclose(self.shares, np.divide(self.frames, sum(self.frames))):
            raise ValueError(f"order {self.order} has each frame once, so weights can't be used; use order draw")

    def __len__(self) -> int:
        return self.epoch_frames or sum(self.frames)

    def at(self, epoch: int, positions: Positions) -> tuple[Positions, Positions]:
        """Dataset and frame, counted within it, at each position of an epoch."""
        starts = np.concatenate(([0], np.cumsum(self.frames)))
        if self.order == "draw":
            bounds = np.cumsum(self.shares)
            place = philox.uniform(positions, seed=self.seed, epoch=epoch, stream=philox.DATASET)
            dataset = np.searchsorted(bounds / bounds[-1], place, side="right")
            sizes = np.asarray(self.frames)[dataset]
            part = philox.uniform(positions, seed=self.seed, epoch=epoch, stream=philox.FRAME)
            return dataset, np.minimum((part * sizes).astype(np.int64), sizes - 1)
        if self.order == "shuffle":
            positions = philox.permutation(positions, int(starts[-1]), seed=self.seed, epoch=epoch)
        dataset = np.searchsorted(starts, positions, side="right") - 1
        return dataset, positions - starts[dataset]

    def to_json(self) -> dict[str, Json]:
        """A plain dictionary."""
        return {
            "frames": list(self.frames),
            "shares": list(self.shares),
            "seed": self.seed,
            "order": self.order,
            "epoch_frames": len(self),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The positions of every batch of one rank.

    Attributes:
        sampling: the stream.
        batch_size: frames of a batch of one rank.
        rank: this process, from 0.
        world_size: processes that train together.
        last: what becomes of the end of an epoch that fills no global batch: ``drop`` leaves it out; ``short``
            deals it out, so that a rank may have a batch fewer; ``wrap`` fills it up from the epoch's beginning.

    Raises:
        ValueError: a rank, this or another, would have no batch at all.
    """

    sampling: Sampling
    batch_size: int
    rank: int = 0
    world_size: int = 1
    last: str = "drop"

    def __post_init__(self) -> None:
        checks.whole("batch_size", self.batch_size, low=1)
        checks.whole("world_size", self.world_size, low=1)
        checks.whole("rank", self.rank, low=0, high=self.world_size - 1)
        checks.one_of("last", self.last, LASTS)
        # The same for all ranks: one that stops while the others wait for it would hang them.
        least = {"drop": self._global, "short": self.world_size, "wrap": 1}[self.last]
        if len(self.sampling) < least:
            raise ValueError(
                f"an epoch of {len(self.sampling):,} frames has no batch of {self.world_size} x "
                f"{self.batch_size:,} frames; last = 'wrap' fills it up"
            )

    @property
    def _global(self) -> int:
        return self.batch_size * self.world_size

    @property
    def global_batches(self) -> int:
        """Batches of an epoch for all ranks together; the last may have nothing for this one."""
        whole, rest = divmod(len(self.sampling), self._global)
        return whole if self.last == "drop" or rest == 0 else whole + 1

    def __len__(self) -> int:
        """Batches of an epoch for this rank."""
        rest = len(self.sampling) % self._global
        left_out = self.last == "short" and 0 < rest <= self.rank
        return self.global_batches - left_out

    def positions(self, number: int) -> Positions:
        """The positions of batch ``number`` of an epoch."""
        start = number * self._global
        rest = len(self.sampling) - start
        if rest < self._global and self.last == "short":
            return start + self._dealt(rest)
        mine = start + self.rank * self.batch_size + np.arange(self.batch_size, dtype=np.int64)
        return mine % len(self.sampling)

    def _dealt(self, rest: int) -> Positions:
        return np.arange(self.rank, rest, self.world_size, dtype=np.int64)

    def digest(self, of: Json) -> str:
        """SHA-256 of what decides about the stream; ``of`` names the data."""
        facts = {**self.sampling.to_json(), "global_batch": self._global, "last": self.last, "of": of}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
