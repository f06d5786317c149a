"""Meta-World: fifty tasks of one arm, four numbers an action. https://github.com/Farama-Foundation/Metaworld."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from training_adapters.envs.named import Named
from vla_data.errors import UsageError
from vla_data.safety.text import show


def make(name: str, cameras: Sequence[str]) -> gymnasium.Env[dict[str, Any], Any]:
    """A task by its name, such as ``reach-v3``, from states; the reward is 1 with success, which ends the episode.

    The goal is part of the state, and each reset with a seed draws its own.
    """
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as TASKS

    if cameras:
        raise UsageError("E001", "Meta-World has no cameras here, only states; leave cameras out")
    if f"{name}-goal-observable" not in TASKS:
        raise UsageError("E001", f"Meta-World has no {show(name)!r}; its names are like reach-v3")
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
