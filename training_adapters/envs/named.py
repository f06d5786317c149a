"""Other people's environments with LeRobot's keys, a prompt, and a success flag in every info."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium import spaces
from numpy.typing import NDArray

Observation = dict[str, Any]


class Named(gymnasium.Wrapper[Observation, NDArray[Any], Any, NDArray[Any]]):
    """An environment whose observations are ``agent_pos``, ``environment_state`` and ``pixels`` by camera.

    Args:
        env: what to wrap.
        task: its prompt.
        observe: from its observation to one with LeRobot's keys.
        solved: from its info to whether it is solved.
        sparse: the reward is 1 with success and 0 before, and the episode ends there.
        reseed: for an environment whose ``reset`` does not take a seed: what gives it one before.

    Attributes:
        task: the prompt.
        seen: the last observation.
    """

    def __init__(
        self,
        env: gymnasium.Env[Any, NDArray[Any]],
        *,
        task: str,
        observe: Callable[[Any], Observation],
        solved: Callable[[Mapping[str, Any]], bool],
        sparse: bool = False,
        reseed: Callable[[int], Any] | None = None,
    ) -> None:
        super().__init__(env)
        self.task, self._reseed, self.seen = task, reseed, Observation()
        self._observe, self._solved, self._sparse = observe, solved, sparse
        if not isinstance(env.action_space, spaces.Box):
            raise TypeError(f"actions are {env.action_space}, not numbers")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See `gymnasium.Env`."""
        if seed is not None and self._reseed is not None:
            self._reseed(seed)
        seen, info = self.env.reset(seed=seed, options=options)
        self.seen = self._observe(seen)
        return self.seen, {**info, "is_success": False, "task": self.task}

    def step(self, action: NDArray[Any]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        seen, reward, terminated, truncated, info = self.env.step(action)
        solved = bool(self._solved(info))
        told = {**info, "is_success": solved, "task": self.task}
        if self._sparse:
            reward, terminated = float(solved), terminated or solved
        self.seen = self._observe(seen)
        return self.seen, float(reward), bool(terminated), bool(truncated), told


def cameras_of(seen: Mapping[str, Any], wanted: tuple[str, ...]) -> Observation:
    """An observation of LeRobot's keys with the wanted cameras; a single one is called ``top``."""
    out = {name: value for name, value in seen.items() if name != "pixels"}
    if wanted:
        pixels = seen["pixels"] if isinstance(seen["pixels"], Mapping) else {"top": seen["pixels"]}
        out["pixels"] = {camera: pixels[camera] for camera in wanted}
    return out
