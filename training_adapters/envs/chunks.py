"""A whole chunk of actions as one action of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

Observation = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One step inside of a chunk.

    Attributes:
        observation: before the action.
        action: ``(D,)``, as it was executed, but for the environment's own clipping.
        reward: after it.
        info: after it.
    """

    observation: Observation
    action: NDArray[Any]
    reward: float
    info: Mapping[str, Any]


class ChunkEnv(gymnasium.Wrapper[Observation, NDArray[Any], Observation, NDArray[Any]]):
    """Executes a chunk ``(H, D)`` open loop, and stops within it where the episode ends.

    ``step`` returns the last observation, the plain sum of the rewards, and an info with ``rewards`` ``(k,)`` and
    ``steps`` k, 1 to H, besides what the environment says. `taken` has the steps one by one. It is an environment
    of gymnasium, so that ``SyncVectorEnv`` and ``AsyncVectorEnv`` take it.

    Args:
        env: what to wrap; its actions are ``(D,)``.
        horizon: H.
    """

    def __init__(self, env: gymnasium.Env[Observation, NDArray[Any]], horizon: int) -> None:
        super().__init__(env)
        one = env.action_space
        if not isinstance(one, spaces.Box) or len(one.shape) != 1 or horizon < 1:
            raise ValueError(f"a chunk of {horizon} steps needs an action space of (D,) numbers, not {one}")
        self.action_space = spaces.Box(
            np.tile(one.low, (horizon, 1)), np.tile(one.high, (horizon, 1)), dtype=one.dtype
        )
        self.horizon = horizon
        self.taken: list[Step] = []
        self._seen: Observation | None = None

    @property
    def task(self) -> str:
        """The prompt of this episode."""
        return str(self.env.get_wrapper_attr("task"))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See `gymnasium.Env`."""
        self._seen, info = self.env.reset(seed=seed, options=options)
        self.taken = []
        return self._seen, info

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See the class.

        Raises:
            ValueError: the chunk has another shape, or the episode has not begun.
        """
        if self._seen is None:
            raise ValueError("the episode has not begun; reset it")
        if np.shape(action) != self.action_space.shape:
            raise ValueError(f"the chunk has shape {np.shape(action)}, not {self.action_space.shape}")
        self.taken = []
        # In the environment's own precision: what is recorded is what was executed, and replays to the last bit.
        for row in np.asarray(action, dtype=self.action_space.dtype):
            before = self._seen
            self._seen, reward, terminated, truncated, info = self.env.step(row)
            self.taken.append(Step(before, row, float(reward), info))
            if terminated or truncated:
                break
        rewards = np.array([step.reward for step in self.taken])
        told = {**info, "rewards": rewards, "steps": len(rewards)}
        return self._seen, float(rewards.sum()), bool(terminated), bool(truncated), told

    def replay(self, action: NDArray[Any]) -> Observation:
        """One step of an episode that was played before; what is seen after it."""
        self._seen, *_ = self.env.step(action)
        return self._seen
