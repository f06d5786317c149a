"""Demonstrations of an environment's scripted expert, and demonstrations as batches that can be gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training_adapters.envs.expert import expert
from training_adapters.envs.starts import Start, draw_start
from training_adapters.envs.tabletop import LIMITS, Tabletop

NOISE: Final = 0.15
"""Deviation of what is added to the expert's translations, as a share of their limit. What is learnt is the
expert's action in the states that noise leads to; without it nobody would show the way back."""


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Frames with the chunk that follows each.

    Attributes:
        state: ``(N, S)`` float32.
        task: N prompts.
        action: ``(N, H, D)`` float32 in the environment's units; after the episode's end nothing moves.
        episodes: how many episodes they are of.
    """

    state: NDArray[np.float32]
    task: Sequence[str]
    action: NDArray[np.float32]
    episodes: int

    def __len__(self) -> int:
        return len(self.state)

    def batch(self, rows: Tensor) -> dict[str, Any]:
        """Some of the frames, by the names of `training_adapters.policy`."""
        index = rows.numpy()
        return {
            "observation.state": torch.from_numpy(self.state[index]),
            "task": [self.task[row] for row in index],
            "action": torch.from_numpy(self.action[index]),
        }


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """A step of the expert.

    Attributes:
        observation: before the action.
        action: ``(7,)`` what the expert says; what is learnt.
        executed: ``(7,)`` what was done: the same with noise, within the scene's limits.
        success: after it.
    """

    observation: Mapping[str, Any]
    action: NDArray[np.float32]
    executed: NDArray[np.float32]
    success: bool


def show_episode(
    env: Tabletop, begin: Start, random: np.random.Generator
) -> tuple[list[Shown], Mapping[str, Any]]:
    """An episode of the expert with noise, and what is seen after it.

    Args:
        env: to play in.
        begin: its start.
        random: draws the noise.
    """
    seen, _ = env.reset(options={"initial_state": begin})
    steps, ended = [], False
    while not ended:
        action = expert(env)
        noisy = action.copy()
        noisy[:3] += (NOISE * LIMITS[:3] * random.normal(size=3)).astype(np.float32)
        executed = np.clip(noisy, -LIMITS, LIMITS)
        after, _, terminated, truncated, _ = env.step(executed)
        steps.append(Shown(seen, action, executed, terminated))
        seen, ended = after, terminated or truncated
    return steps, seen


def demonstrate(episodes: int, *, seed: int, horizon: int) -> Demonstrations:
    """Solved episodes of the table-top scene's expert.

    Args:
        episodes: how many.
        seed: of starts and noise.
        horizon: steps of a chunk.
    """
    random, env = np.random.default_rng((seed, 1)), Tabletop()
    states, tasks, actions, solved = [], [], [], 0
    while solved < episodes:
        steps, _ = show_episode(env, draw_start(random, task=solved % 9), random)
        if steps[-1].success:
            solved += 1
            states += [step.observation["agent_pos"] for step in steps]
            tasks += [env.task] * len(steps)
            actions.append(chunks_of(np.stack([step.action for step in steps]), horizon, still=range(6)))
    return Demonstrations(np.stack(states), tasks, np.concatenate(actions), episodes)


def chunks_of(actions: NDArray[np.float32], horizon: int, *, still: Sequence[int]) -> NDArray[np.float32]:
    """``(T, H, D)``: the chunk from each step of ``(T, D)`` on.

    Args:
        actions: of one episode.
        horizon: H.
        still: elements that are 0 after the end; the others stay what they were last.
    """
    rest = np.repeat(actions[-1:], horizon - 1, axis=0)
    rest[:, list(still)] = 0.0
    return np.lib.stride_tricks.sliding_window_view(np.concatenate([actions, rest]), horizon, axis=0).swapaxes(
        1, 2
    )


class Draws:
    """Batches of demonstrations that are drawn at random, for ever.

    Args:
        data: what to draw from.
        batch_size: frames of a batch.
        seed: of the draws.
    """

    def __init__(self, data: Demonstrations, *, batch_size: int, seed: int) -> None:
        self._data, self._size, self._seed, self._number = data, batch_size, seed, 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            draw = np.random.default_rng((self._seed, self._number)).integers(len(self._data), size=self._size)
            self._number += 1
            yield self._data.batch(torch.from_numpy(draw))

    def state_dict(self) -> dict[str, Any]:
        """Where the draws are."""
        return {"number": self._number}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._number = int(state["number"])
