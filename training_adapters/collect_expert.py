"""Episodes of an environment's scripted expert, written as rollouts: a first dataset, without any policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from training_adapters.collect import CAMERA, Collection, seen
from training_adapters.demonstrations import Shown, show_episode
from training_adapters.envs.features import ACTION
from training_adapters.envs.starts import TASKS, draw_start
from training_adapters.envs.table import Place
from training_adapters.envs.tabletop import Tabletop
from training_adapters.intervals import Share
from vla_data.errors import UsageError
from vla_data.recording import RolloutWriter
from vla_data.steps.success import RECORDED

EXECUTED: Final = "action.executed"


def collect_expert(
    place: Place, folder: str | Path, *, episodes: int, seed: int = 0, images: bool = True
) -> Collection:
    """Play ``episodes`` training starts of a seed, the prompts in turn, and write them all, solved or not.

    ``action`` is what the expert says, and ``action.executed`` what was done, the same with noise: what is learnt
    is the way back from where noise leads.

    Args:
        place: the environment.
        folder: of the rollouts; more of them are added to those that are there.
        episodes: how many.
        seed: of starts and noise.
        images: whether the camera is recorded too.

    Raises:
        UsageError: E001, no episodes; E006, the machine cannot render; E231, the environment has no expert.
    """
    row = place.row
    if not row.expert:
        raise UsageError("E231", f"{place.name} has no scripted expert: give a policy (--checkpoint)")
    if episodes < 1:
        raise UsageError("E001", f"episodes is {episodes}, not 1 or more")
    random, env = np.random.default_rng((seed, 4)), Tabletop(cameras=(CAMERA,) if images else ())
    solved = count = 0
    with RolloutWriter(folder, fps=row.fps, features={**row.features, EXECUTED: ACTION}) as writer:
        for number in range(episodes):
            begin = draw_start(random, task=number % len(TASKS))
            steps, last = show_episode(env, begin, random)
            episode = writer.episode(
                task=begin.prompt, facts={"init_hash": begin.init_hash, "policy": "scripted_expert"}
            )
            for step in steps:
                episode.add(seen(step.observation) | _done(step))
            rule = {RECORDED: 1} if steps[-1].success else {}
            episode.end(seen(last), facts={"success": steps[-1].success, **rule})
            solved, count = solved + steps[-1].success, count + len(steps)
    env.close()
    return Collection(success=Share(solved, episodes), written=episodes, dropped=0, steps=count)


def _done(step: Shown) -> dict[str, Any]:
    return {
        "action": step.action,
        EXECUTED: step.executed,
        "next.reward": float(step.success),
        "next.success": step.success,
    }
