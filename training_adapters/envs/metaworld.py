"""Meta-World: fifty tasks of one arm, four numbers an action. https://github.com/Farama-Foundation/Metaworld."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from training_adapters.envs.named import Named, Observation
from training_adapters.envs.table import BETWEEN
from vla_data.errors import UsageError
from vla_data.safety.text import show


class Tasks(gymnasium.Env[Observation, NDArray[np.float32]]):
    """Several tasks as one environment; the seed of a reset says which: task ``seed % count``, in turn.

    Args:
        names: such as ``reach-v3``. A task is made when it is first played.

    Without a seed the task stays the one that it was, at first the first one.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._made = tuple(names), dict[str, Named]()
        self._now = self._of(0)
        self.observation_space, self.action_space = self._now.observation_space, self._now.action_space

    @property
    def task(self) -> str:
        """The prompt of this episode."""
        return self._now.task

    @property
    def seen(self) -> Observation:
        """The last observation."""
        return self._now.seen

    @property
    def name(self) -> str:
        """The name of this episode's task."""
        return next(name for name, env in self._made.items() if env is self._now)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See `gymnasium.Env` and the class."""
        if seed is not None:
            self._now = self._of(seed % len(self._names))
        return self._now.reset(seed=seed, options=options)

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See `gymnasium.Env`."""
        return self._now.step(action)

    def close(self) -> None:
        """Give the environments' memory back."""
        for env in self._made.values():
            env.close()

    def _of(self, number: int) -> Named:
        name = self._names[number]
        if name not in self._made:
            self._made[name] = _task(name)
        return self._made[name]


def make(name: str, cameras: Sequence[str]) -> gymnasium.Env[dict[str, Any], Any]:
    """A task by its name, such as ``reach-v3``, or several joined by `BETWEEN`, from states.

    The reward is 1 with success, which ends the episode. The goal is part of the state, and each reset with a seed
    draws its own.
    """
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as TASKS

    if cameras:
        raise UsageError("E001", "Meta-World has no cameras here, only states; leave cameras out (--no-images)")
    names = name.split(BETWEEN)
    for one in names:
        if f"{one}-goal-observable" not in TASKS:
            raise UsageError("E001", f"Meta-World has no {show(one)!r}; its names are like reach-v3")
    return Tasks(names)


def expert(env: gymnasium.Env[Any, Any]) -> NDArray[np.float32]:
    """The next action of Meta-World's own scripted policy, ``(4,)``."""
    from metaworld.policies import ENV_POLICY_MAP

    name, seen = env.get_wrapper_attr("name"), env.get_wrapper_attr("seen")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", UserWarning
        )  # that what is beyond the limits is clipped, which is done here
        action = ENV_POLICY_MAP[name]().get_action(np.asarray(seen["agent_pos"], dtype=np.float64))
    return np.asarray(np.clip(action, -1.0, 1.0), dtype=np.float32)


def _task(name: str) -> Named:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as TASKS

    env = TASKS[f"{name}-goal-observable"](seed=0)
    # As it is made, every reset has the goal of the first: with these, each draws one from the generator.
    env._freeze_rand_vec, env.seeded_rand_vec = False, True
    return Named(
        env,
        task=name.rpartition("-")[0].replace("-", " "),
        observe=lambda seen: {"agent_pos": np.asarray(seen, dtype=np.float32)},
        solved=lambda info: bool(info["success"]),
        sparse=True,
        reseed=env.seed,
    )
