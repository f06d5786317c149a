"""Rollouts as they lie on the disk, chunk by chunk: what a policy learns from, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import vla_data as vd
from training_adapters.demonstrations import chunks_of
from vla_data.core import EpisodeRef
from vla_data.errors import DataError

CHUNK, TOKENS, MASK, LOG_PROB = "chunk.step", "chunk.tokens", "chunk.tokens_mask", "chunk.log_prob"


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """An episode that was recorded while it was played, with ``N`` chunks.

    Attributes:
        task: the prompt.
        facts: of the episode, as they were recorded.
        state: ``(T, S)`` float32, before each step.
        action: ``(T, D)`` float32, as executed.
        reward: ``(T,)`` float64, after each step.
        success: whether the episode was solved.
        begins: ``(N,)`` int64, the first step of each chunk.
        tokens: ``(N, L)`` int64; without columns where the policy has none.
        mask: ``(N, L)`` bool.
        log_prob: ``(N,)`` float32, of the whole chunk when it was sampled; 0 without tokens.
    """

    task: str
    facts: Mapping[str, Any]
    state: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float64]
    success: bool
    begins: NDArray[np.int64]
    tokens: NDArray[np.int64]
    mask: NDArray[np.bool_]
    log_prob: NDArray[np.float32]

    def chunks(self, horizon: int, *, still: Sequence[int], rows: NDArray[np.int64]) -> tuple[Any, Any]:
        """``(n, H, D)`` the actions that followed steps, and ``(n, H)`` True where the episode had ended.

        Args:
            horizon: H.
            still: elements of an action that are 0 after the end.
            rows: ``(n,)`` steps.
        """
        all_chunks = chunks_of(self.action, horizon, still=still)
        ended = rows[:, None] + np.arange(horizon)[None] >= len(self.action)
        return all_chunks[rows], ended


def read(folder: Path, names: Sequence[str]) -> list[Rollout]:
    """Rollouts of a folder by their file names.

    Raises:
        DataError: one can't be read; E206, it was not recorded chunk by chunk.
    """
    source = vd.open_source(f"ppo_rollout:{folder}")
    return [_rollout(source.read(EpisodeRef(name, 0))) for name in names]


def _rollout(episode: vd.Episode) -> Rollout:
    arrays = episode.arrays
    for name in ("observation.state", CHUNK):
        if name not in arrays:
            raise DataError("E206", f"{episode.id} has no {name}: record it with vla-train")
    begins = np.flatnonzero(np.asarray(arrays[CHUNK]).reshape(-1) == 0)
    if TOKENS in arrays:
        tokens, mask = arrays[TOKENS][begins], arrays[MASK][begins]
        log_prob = np.asarray(arrays[LOG_PROB]).reshape(-1)[begins].astype(np.float32)
    else:
        tokens, mask = np.zeros((len(begins), 0), np.int64), np.zeros((len(begins), 0), np.bool_)
        log_prob = np.zeros(len(begins), np.float32)
    return Rollout(
        task=episode.task,
        facts=dict(episode.meta.episode_metadata or {}),
        state=np.asarray(arrays["observation.state"], dtype=np.float32),
        action=np.asarray(arrays["action"], dtype=np.float32),
        reward=np.asarray(arrays["next.reward"], dtype=np.float64).reshape(-1),
        success=bool(np.asarray(arrays["next.success"]).any()),
        begins=begins,
        tokens=np.asarray(tokens, dtype=np.int64),
        mask=np.asarray(mask, dtype=np.bool_),
        log_prob=log_prob,
    )


@dataclass(frozen=True, slots=True, eq=False)
class Chunks:
    """``N`` chunks of several rollouts, to learn from.

    Attributes:
        observations: a batch of N, by the names of `training_adapters.policy`; with ``action`` ``(N, H, D)`` and
            ``action_is_pad`` ``(N, H)``.
        tokens: ``(N, L)``.
        mask: ``(N, L)``.
        log_prob: ``(N,)`` when they were sampled.
        advantage: ``(N,)`` float32.
    """

    observations: dict[str, Any]
    tokens: Tensor
    mask: Tensor
    log_prob: Tensor
    advantage: Tensor

    def __len__(self) -> int:
        return len(self.advantage)

    def pick(self, rows: Tensor) -> Chunks:
        """Some of the chunks; tokens are cut to the longest of them."""
        longest = int(self.mask[rows].sum(dim=1).max()) if self.mask[rows].numel() else 0
        seen = {
            name: [value[row] for row in rows.tolist()] if isinstance(value, list) else value[rows]
            for name, value in self.observations.items()
        }
        return Chunks(
            seen,
            self.tokens[rows, :longest],
            self.mask[rows, :longest],
            self.log_prob[rows],
            self.advantage[rows],
        )


def gather(
    rollouts: Sequence[Rollout],
    advantages: NDArray[np.float64],
    *,
    horizon: int,
    still: Sequence[int],
    every_step: bool = False,
) -> Chunks:
    """The chunks of rollouts, each with its rollout's advantage.

    Args:
        rollouts: at least one.
        advantages: one for each.
        horizon: H.
        still: see `Rollout.chunks`.
        every_step: a chunk from every step, and not only from where the policy began one; without tokens.
    """
    parts = []
    for rollout, advantage in zip(rollouts, advantages, strict=True):
        rows = np.arange(len(rollout.state)) if every_step else rollout.begins
        action, ended = rollout.chunks(horizon, still=still, rows=rows)
        parts.append(
            (rollout.state[rows], action, ended, [rollout.task] * len(rows), np.full(len(rows), advantage))
        )
    states, actions, ends, tasks, weights = zip(*parts, strict=True)
    count = sum(map(len, states))
    width = 0 if every_step else max(rollout.tokens.shape[1] for rollout in rollouts)
    tokens = [] if not width else [rollout.tokens for rollout in rollouts]
    masks = [] if not width else [rollout.mask for rollout in rollouts]
    told = [np.zeros(count, np.float32)] if every_step else [rollout.log_prob for rollout in rollouts]
    return Chunks(
        {
            "observation.state": torch.from_numpy(np.concatenate(states)),
            "task": [task for part in tasks for task in part],
            "action": torch.from_numpy(np.concatenate(actions)),
            "action_is_pad": torch.from_numpy(np.concatenate(ends)),
        },
        torch.from_numpy(np.concatenate(tokens)) if width else torch.zeros(count, 0, dtype=torch.int64),
        torch.from_numpy(np.concatenate(masks)) if width else torch.zeros(count, 0, dtype=torch.bool),
        torch.from_numpy(np.concatenate(told)),
        torch.from_numpy(np.concatenate(weights).astype(np.float32)),
    )
