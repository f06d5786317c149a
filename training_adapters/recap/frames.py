"""The frames of datasets in memory, as the `Loader` hands them out: what models of states learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from training_adapters.demonstrations import chunks_of
from training_adapters.policies.bins import BinPolicy
from vla_data.errors import UsageError
from vla_data.mixtures import Contract, Loader, open_mixture
from vla_data.mixtures.config import Config, Entry

_READ: Final = 512
TOKENS, STEP = "chunk.tokens", "chunk.step"
"""Features of recordings: the chunk that a step is of, and which step of it."""


@dataclass(frozen=True, eq=False)
class Frames:
    """N frames of several episodes, these one after the other.

    Attributes:
        state: ``(N, S)`` float32.
        task: N prompts.
        action: ``(N, H, D)`` float32, the chunk from each frame on, in the environment's units.
        dataset: ``(N,)`` which dataset.
        episode: ``(N,)`` its ``episode_index`` there.
        frame: ``(N,)`` its ``frame_index``.
        columns: ``(N,)`` of an annotation, by name, where there is one.
    """

    state: NDArray[np.float32]
    task: NDArray[Any]
    action: NDArray[np.float32]
    dataset: NDArray[np.int64]
    episode: NDArray[np.int64]
    frame: NDArray[np.int64]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.state)

    @property
    def number(self) -> NDArray[np.int64]:
        """``(N,)``: 0, 1, ... for each episode, in order."""
        pairs = np.stack([self.dataset, self.episode], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def pick(self, rows: NDArray[Any]) -> Frames:
        """Some of the frames, by numbers or by a mask."""
        arrays = ("state", "task", "action", "dataset", "episode", "frame")
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, **{name: getattr(self, name)[rows] for name in arrays}, columns=columns)

    def draw(
        self, random: np.random.Generator, size: int, weights: Sequence[float] | None = None
    ) -> NDArray[np.int64]:
        """``(size,)`` rows with replacement: each frame alike, or a dataset by its weight and a frame of it."""
        if weights is None:
            return random.integers(len(self), size=size)
        counts = np.bincount(self.dataset, minlength=len(weights))
        shares = np.where(counts > 0, weights, 0.0)
        if shares.sum() <= 0:
            raise UsageError("E001", "no dataset with a weight above 0 has frames")
        chosen = random.choice(len(weights), size=size, p=shares / shares.sum())
        starts = np.cumsum(counts) - counts
        return np.asarray(starts[chosen] + (random.random(size) * counts[chosen]).astype(np.int64))

    def batch(self, rows: NDArray[Any]) -> dict[str, Any]:
        """Observations of some frames, by the names of `training_adapters.policy`, and ``frame_index``."""
        return {
            "observation.state": torch.from_numpy(self.state[rows]),
            "task": self.task[rows].tolist(),
            "frame_index": torch.from_numpy(self.frame[rows]),
        }


def read_frames(
    entries: Sequence[Entry],
    *,
    contract: Contract,
    horizon: int,
    still: Sequence[int],
    player: BinPolicy | None = None,
) -> Frames:
    """All frames of datasets.

    Args:
        entries: the datasets.
        contract: of actions, rates and resampling; cameras, sizes and chunk are chosen here.
        horizon: H.
        still: elements of an action that are 0 after an episode's end; the others stay what they were last.
        player: of recordings: whose chunks they are. What it had planned beyond the end of an episode is then in
            the chunks, in the place of standing still.

    Raises:
        UsageError: E206, a dataset has no states; see `vla_data.mixtures`.
    """
    extras = (*contract.extras, TOKENS, STEP) if player is not None else contract.extras
    plain = replace(contract, cameras=(), image_size=None, state_dim=0, action_dim=None, chunk=1, history=None)
    widths = {member.widths[0] for member in open_mixture(Config(contract=plain, datasets=tuple(entries))).members}
    if widths != {max(widths)} or 0 in widths:
        raise UsageError("E206", f"policies of states need states of one size; the datasets have {sorted(widths)}")
    whole = replace(plain, state_dim=max(widths), extras=extras)
    mixture = open_mixture(Config(contract=whole, datasets=tuple(entries), order="sequential"))
    batches = list(Loader(mixture, batch_size=_READ, last="short"))
    columns = {
        name: np.concatenate(
            [np.asarray(batch[name], dtype=object if name == "task" else None) for batch in batches]
        )
        for name in batches[0]
    }
    dataset, episode = columns["dataset_index"], columns["episode_index"]
    starts = np.flatnonzero(np.append(True, (np.diff(dataset) != 0) | (np.diff(episode) != 0)))
    actions = columns["action"][:, 0]
    chunks = []
    for first, end in zip(starts, np.append(starts[1:], len(actions)), strict=True):
        own = actions[first:end]
        if player is not None:
            plan = player.decode(torch.from_numpy(columns[TOKENS][end - 1 : end]))[0].numpy()
            own = np.concatenate([own, plan[int(columns[STEP][end - 1]) + 1 :].astype(np.float32)])
        chunks.append(chunks_of(own, horizon, still=still)[: end - first])
    return Frames(
        state=columns["observation.state"],
        task=columns["task"],
        action=np.concatenate(chunks),
        dataset=dataset,
        episode=episode,
        frame=columns["frame_index"],
        columns={name: columns[name] for name in ("advantage", "value", "return", "positive") if name in columns},
    )
