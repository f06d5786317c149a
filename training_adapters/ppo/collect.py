"""Chunks of an update, from lanes of episodes that go on between updates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training_adapters.envs.lanes import Lanes, Moved, observations
from training_adapters.policies.value import ActorCritic
from training_adapters.policy import Chunk
from training_adapters.ppo.advantages import chunk_advantages, chunk_reward, normalised
from training_adapters.ppo.buffer import Rollout, stack

Watcher = Callable[[Chunk, Sequence[Moved]], None]
"""Told of every chunk of all lanes, for a recording."""


@dataclass(frozen=True, slots=True, eq=False)
class Collected:
    """What an update learns from, and what it saw.

    Attributes:
        rollout: the chunks.
        steps: environment steps.
        episodes: that ended.
        solved: of these.
        episode_reward: mean sum of rewards of the episodes that ended; NaN without any.
        chunk_reward: mean reward of a chunk.
        malformed: chunks that were none.
        explained: share of the variance of value targets that the critic knew; 0 is as much as a constant knows.
    """

    rollout: Rollout
    steps: int
    episodes: int
    solved: int
    episode_reward: float
    chunk_reward: float
    malformed: int
    explained: float


class Collector:
    """Collects, and keeps the sum of rewards of episodes that are not over.

    Args:
        model: what acts and says what observations are worth.
        lanes: where.
        count: of them.
        generator: of sampling.
        gamma: see `chunk_reward`.
        discount: likewise.
        lam: of the advantages.
        time_limit: whether it cuts an episode off (``cut``) or is its end (``end``); see `PPOConfig`.
        temperature: of sampling.
        watch: told of every chunk.
    """

    def __init__(
        self,
        model: ActorCritic,
        lanes: Lanes,
        generator: torch.Generator,
        *,
        count: int,
        gamma: float,
        discount: str,
        lam: float,
        time_limit: str = "cut",
        temperature: float = 1.0,
        watch: Watcher | None = None,
    ) -> None:
        self._model, self._lanes, self._generator = model, lanes, generator
        self._gamma, self._discount, self._lam = gamma, discount, lam
        self._temperature, self._watch, self._limit_ends = temperature, watch, time_limit == "end"
        self.returns = [0.0] * count

    def collect(self, rounds: int) -> Collected:
        """``rounds`` chunks of each lane."""
        seen: list[dict[str, Any]] = []
        chunks: list[Chunk] = []
        moves: list[list[Moved]] = []
        for _ in range(rounds):
            batch = self._lanes.observations()
            chunk = self._model.act(batch, self._generator, temperature=self._temperature)
            moved = self._lanes.step(chunk.actions.numpy(), malformed=chunk.malformed.tolist())
            if self._watch is not None:
                self._watch(chunk, moved)
            seen.append(batch)
            chunks.append(chunk)
            moves.append(moved)
        return self._made(seen, chunks, moves)

    def _made(self, seen: list[dict[str, Any]], chunks: list[Chunk], moves: list[list[Moved]]) -> Collected:
        pairs = [[chunk_reward(m.rewards, self._gamma, discount=self._discount) for m in row] for row in moves]
        with torch.no_grad():
            value = torch.stack([self._model.value(batch) for batch in seen]).numpy()
        found = chunk_advantages(
            reward=[[reward for reward, _ in row] for row in pairs],
            discount=[[after for _, after in row] for row in pairs],
            value=value,
            terminated=[[m.terminated or (m.truncated and self._limit_ends) for m in row] for row in moves],
            truncated=[[m.truncated and not self._limit_ends for m in row] for row in moves],
            final_value=self._final_values(moves),
            lam=self._lam,
        )
        ends = self._count(moves)
        rollout = Rollout(
            _joined(seen),
            stack([chunk.tokens for chunk in chunks]),
            stack([chunk.mask for chunk in chunks]),
            stack([chunk.log_prob for chunk in chunks]),
            _floats(normalised(found.advantage)),
            _floats(found.value_target),
        )
        return Collected(
            rollout=rollout,
            steps=sum(len(m.steps) for row in moves for m in row),
            episodes=len(ends),
            solved=sum(success for success, _ in ends),
            episode_reward=float(np.mean([total for _, total in ends])) if ends else float("nan"),
            chunk_reward=float(np.mean([m.rewards.sum() for row in moves for m in row])),
            malformed=sum(int(chunk.malformed.sum()) for chunk in chunks),
            explained=1.0 - float(found.advantage.var() / max(found.value_target.var(), 1e-12)),
        )

    def _final_values(self, moves: list[list[Moved]]) -> Any:
        """The value of what was seen last, where an episode was cut by its limit or by the end of the buffer."""
        out = np.full((len(moves), len(moves[0])), np.nan)
        last = len(moves) - 1
        where = [
            (t, lane)
            for t, row in enumerate(moves)
            for lane, m in enumerate(row)
            if m.truncated or (t == last and not m.terminated)
        ]
        if where:
            cut = [moves[t][lane] for t, lane in where]
            with torch.no_grad():
                values = self._model.value(observations([m.last for m in cut], [m.task for m in cut]))
            out[tuple(np.array(where).T)] = values.numpy()
        return out

    def _count(self, moves: list[list[Moved]]) -> list[tuple[bool, float]]:
        ends = []
        for row in moves:
            for lane, moved in enumerate(row):
                self.returns[lane] += float(moved.rewards.sum())
                if moved.terminated or moved.truncated:
                    ends.append((moved.success, self.returns[lane]))
                    self.returns[lane] = 0.0
        return ends


def _joined(batches: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: [task for batch in batches for task in batch[name]]
        if isinstance(batches[0][name], list)
        else torch.cat([batch[name] for batch in batches])
        for name in batches[0]
    }


def _floats(values: Any) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32).reshape(-1))
