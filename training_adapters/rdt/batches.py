"""Batches of `RdtDataset` for a `FlowPolicy`, each by its number alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from converters.rdt import bugs as rdt_bugs
from converters.rdt.cameras import SLOTS
from converters.rdt.vectors import Vectors, vectors
from training_adapters.rdt.config import RdtConfig
from training_adapters.rdt.dataset import RdtDataset
from vla_data.core import Source
from vla_data.errors import UsageError, VerifyError
from vla_data.safety.text import show

_CACHED = 10_000
"""Episodes that stay in memory; a small policy's data do."""


class RdtBatches:
    """See the module.

    Args:
        config: the options.
        source: of the episodes.

    Attributes:
        dataset: what batches are made of.
        vectors: of the first episode: conventions and masks, which all share.
    """

    def __init__(self, config: RdtConfig, source: Source) -> None:
        self._config = config
        options: dict[str, Any] = {
            "layout": config.layout,
            "action_convention": config.action_convention or None,
            "state_convention": config.state_convention or None,
        }
        self.dataset = RdtDataset(
            source,
            name="dataset",
            rules=config.rules(),
            hiding=config.hides(),
            seed=config.seed,
            process_image=self._image,
            image_size=config.side or 1,
            cached=_CACHED,
            cameras=None if config.side else dict.fromkeys(SLOTS, "none"),
            **options,
        )
        refs = self.dataset.episodes.refs
        first = source.read(refs[0])
        self.vectors: Vectors = vectors(first, source.schema(first), **options)
        self.tasks = sorted({self.dataset.episodes[at].task for at in range(len(refs))})
        self._observed = [_observed(source, ref, config.observe) for ref in refs] if config.observe else None

    def verify(self) -> None:
        """Look for the known mistakes, as ``vla-data verify --trainer rdt`` does.

        Raises:
            VerifyError: E601 with the name of the first, such as ``wrong_unit``.
        """
        found = self.vectors
        bugs = rdt_bugs.find_all(
            self._pairs(),
            convention=found.action_convention,
            masks=(found.state_mask, found.action_mask),
            fps=self.dataset.episodes.fps,
        )
        if bugs:
            raise VerifyError(
                "E601", f"{show(self._config.dataset)}: {bugs[0].code}: {bugs[0].message}; nothing was trained"
            )

    @property
    def observed(self) -> int:
        """Numbers of the feature that is observed besides."""
        return 0 if self._observed is None else self._observed[0].shape[1]

    @property
    def images(self) -> int:
        """Of an observation."""
        return 3 * self._config.history if self._config.side else 0

    def states(self) -> NDArray[np.float64]:
        """``(N, 128 + observed)`` of all steps that are trained on, with nothing hidden."""
        return np.concatenate([self._whole(at)[0] for at in range(len(self.dataset.episodes))])

    def actions(self) -> NDArray[np.float64]:
        """``(N, 128)`` likewise."""
        return np.concatenate([self._whole(at)[1] for at in range(len(self.dataset.episodes))])

    def __call__(self, number: int) -> dict[str, Any]:
        """The batch of an update, by the names of `training_adapters.policies.flow`."""
        config, random = self._config, np.random.default_rng((self._config.seed, 31, number))
        rows = random.integers(len(self.dataset), size=config.batch_size)
        self.dataset.set_epoch(number)
        made = self.dataset.collate([self.dataset[int(row)] for row in rows])
        state = made["states"][:, 0]
        if self._observed is not None:
            places = [self.dataset.episodes.locate(int(row)) for row in rows]
            seen = np.stack([self._observed[at][step] for at, step in places])
            state = torch.cat([state, torch.from_numpy(seen)], dim=1)
        draws = torch.Generator().manual_seed(int(random.integers(2**62)))
        slots = int(self.vectors.action_mask.sum())
        return {
            "observation.state": state.float(),
            "state_mask": made["state_elem_mask"].float(),
            "ctrl_freq": made["ctrl_freqs"].float(),
            "task": made["instructions"],
            "action": made["actions"],
            "noise": torch.randn(len(rows), config.chunk, slots, generator=draws),
            "time": torch.rand(len(rows), generator=draws),
            **({"images": made["images"]} if config.side else {}),
        }

    def _whole(self, at: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        whole = self.dataset.episodes[at]
        parts = [whole.state] if self._observed is None else [whole.state, self._observed[at]]
        return np.concatenate(parts, axis=1)[whole.first :], whole.action[whole.first :]

    def _pairs(self) -> Iterator[rdt_bugs.Pair]:
        for at in range(len(self.dataset.episodes)):
            whole = self.dataset.episodes[at]
            yield whole.state, whole.action

    def _image(self, image: NDArray[np.uint8]) -> Tensor:
        """``(3, side, side)`` uint8, the nearest pixels; one of no size where the policy sees none."""
        side = self._config.side or 1
        at = (np.arange(side) + 0.5) * image.shape[0] / side
        rows = at.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(image[rows][:, rows].transpose(2, 0, 1)))


def _observed(source: Source, ref: Any, name: str) -> NDArray[np.float64]:
    episode = source.read(ref)
    if name not in episode.arrays:
        raise UsageError("E206", f"{show(ref.id)} has no {show(name)} to observe")
    return np.asarray(episode.arrays[name], dtype=np.float64).reshape(len(episode), -1)
