"""Demonstrations of an environment's scripted expert, and demonstrations as batches that can be gone on with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training_adapters.envs.table import Begin, Env, Place


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
        action: ``(D,)`` what the expert says; what is learnt.
        executed: ``(D,)`` what was done: the same with noise, within the environment's limits.
        success: after it.
        target: before it, the place of what the prompt names; None where the environment does not say it.
    """

    observation: Mapping[str, Any]
    action: NDArray[np.float32]
    executed: NDArray[np.float32]
    success: bool
    target: NDArray[np.float32] | None


def show_episode(
    env: Env, expert: Callable[[Env], Any], begin: Begin, random: np.random.Generator, *, noise: float
) -> tuple[list[Shown], Mapping[str, Any]]:
    """An episode of the expert with noise, and what is seen after it.

    What is learnt is the expert's action in the states that noise leads to; without it nobody would show the way
    back.

    Args:
        env: to play in.
        expert: of the environment.
        begin: its start.
        random: draws the noise.
        noise: see `training_adapters.envs.table.Row`.
    """
    low, high = env.action_space.low, env.action_space.high
    seen, _ = begin.reset(env)
    steps, ended = [], False
    while not ended:
        target, action = getattr(env, "target", None), np.asarray(expert(env), dtype=np.float32)
        noisy = action.copy()
        noisy[:3] += (noise * high[:3] * random.normal(size=3)).astype(np.float32)
        executed = np.clip(noisy, low, high).astype(np.float32)
        after, _, terminated, truncated, info = env.step(executed)
        steps.append(Shown(seen, action, executed, bool(info["is_success"]), target))
        seen, ended = after, terminated or truncated
    return steps, seen


def demonstrate(episodes: int, *, seed: int, horizon: int, place: Place | None = None) -> Demonstrations:
    """Solved episodes of an environment's expert.

    Args:
        episodes: how many.
        seed: of starts and noise.
        horizon: steps of a chunk.
        place: the environment; None: the table-top scene.

    Raises:
        UsageError: E231, it has no expert.
    """
    place = place or Place.of("tabletop")
    expert, env, random = place.expert(), place.make(), np.random.default_rng((seed, 1))
    states, tasks, actions, solved = [], [], [], 0
    while solved < episodes:
        steps, _ = show_episode(env, expert, place.draw(random, turn=solved), random, noise=place.row.noise)
        if steps[-1].success:
            solved += 1
            states += [step.observation["agent_pos"] for step in steps]
            tasks += [env.get_wrapper_attr("task")] * len(steps)
            actions.append(chunks_of(np.stack([step.action for step in steps]), horizon, still=place.row.still))
    env.close()
    return Demonstrations(np.stack(states).astype(np.float32), tasks, np.concatenate(actions), episodes)


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
