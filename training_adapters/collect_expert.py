"""Episodes of an environment's scripted expert, written as rollouts: a first dataset, without any policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from training_adapters.collect import CAMERA, Collection, seen
from training_adapters.demonstrations import Shown, show_episode
from training_adapters.envs.features import TARGET_POSITION
from training_adapters.envs.table import Place
from training_adapters.intervals import Share
from vla_data.errors import UsageError
from vla_data.recording import RolloutWriter
from vla_data.steps.success import RECORDED

EXECUTED: Final = "action.executed"


def collect_expert(
    place: Place,
    folder: str | Path,
    *,
    episodes: int,
    seed: int = 0,
    images: bool = True,
    cameras: Sequence[str] = (CAMERA,),
) -> Collection:
    """Play ``episodes`` training starts of a seed, the prompts in turn, and write them all, solved or not.

    ``action`` is what the expert says, and ``action.executed`` what was done, the same with noise: what is learnt
    is the way back from where noise leads. Recordings with images have ``privileged.target_position`` besides, the
    place of what the prompt names, where the environment knows it: a label for training alone.

    Args:
        place: the environment.
        folder: of the rollouts; more of them are added to those that are there.
        episodes: how many.
        seed: of starts and noise.
        images: whether cameras are recorded too.
        cameras: which.

    Raises:
        UsageError: E001, no episodes, or a camera that is not there; E006, the machine cannot render; E231, the
            environment has no expert.
    """
    row, expert = place.row, place.expert()
    if episodes < 1:
        raise UsageError("E001", f"episodes is {episodes}, not 1 or more")
    random, env = np.random.default_rng((seed, 4)), place.make(tuple(cameras) if images else ())
    features = dict(row.features)
    if "action" in features:
        features[EXECUTED] = features["action"]
    labelled = images and row.target is not None
    if row.target is not None and labelled:
        features[TARGET_POSITION] = row.target
    solved = count = 0
    with RolloutWriter(folder, fps=row.fps, features=features) as writer:
        for number in range(episodes):
            begin = place.draw(random, turn=number)
            steps, last = show_episode(env, expert, begin, random, noise=row.noise)
            episode = writer.episode(
                task=env.get_wrapper_attr("task"), facts={**begin.facts(), "policy": "scripted_expert"}
            )
            for step in steps:
                label = {TARGET_POSITION: step.target} if labelled else {}
                episode.add(seen(step.observation) | _done(step) | label)
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
