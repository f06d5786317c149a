"""What stands in a pickle of ript-vla's rollouts: which episodes, and which of two forms each has.

ript-vla (Ariostgx/ript-vla, commit 440990e) keeps its rollouts in memory and writes none. What its users pickle is
what its functions give:

- ``run_policy_in_env`` of a runner: ``(success, total_reward, episode)``, one or a list of them;
- ``RolloutGenerator.generate_rollouts``: ``(episodes, task_ids, valid_mask, samples)``, whose episodes know their
  ``success`` and ``init_hash``. Where the mask is False an episode is the last one again, to fill the batch;
- an episode, or a list of episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from converters.rollouts.pickled import array_of
from vla_data.errors import DataError

ACTIONS: Final = "actions"
CHUNKS: Final = "actions_normalized"
_TOLD: Final = 3  # success, reward, episode
_GENERATED: Final = 4  # episodes, tasks, mask, samples


@dataclass(frozen=True, kw_only=True)
class Told:
    """One episode of a file.

    Attributes:
        episode: its dictionary.
        success: as its runner said; None: nobody did.
        reward: the sum of its rewards, likewise.
        task: number of its task in the benchmark, likewise.
    """

    episode: Mapping[str, Any]
    success: Any = None
    reward: float | None = None
    task: int | None = None


def episodes(value: Any) -> tuple[list[Told], bool]:
    """The episodes of a pickle, and whether it is a list of them.

    Raises:
        DataError: E206, it is none of these.
    """
    if isinstance(value, tuple) and len(value) == _GENERATED and isinstance(value[0], list):
        return _generated(value), True
    if (one := _one(value)) is not None:
        return [one], False
    if isinstance(value, list | tuple) and value:
        found = [_one(item) for item in value]
        known = [item for item in found if item is not None]
        if len(known) == len(found):
            return known, True
    raise DataError("E206", "it is no rollout of ript-vla: no episode with actions, nor a list of such episodes")


def _one(value: Any) -> Told | None:
    if isinstance(value, dict) and ACTIONS in value:
        return Told(episode=value, success=value.get("success"))
    if (
        isinstance(value, list | tuple)
        and len(value) == _TOLD
        and not isinstance(value[0], dict)  # else it is a list of three episodes
        and isinstance(value[2], dict)
        and ACTIONS in value[2]
    ):
        reward = array_of("total_reward", value[1]).reshape(-1)
        return Told(episode=value[2], success=value[0], reward=float(reward[0]) if reward.size == 1 else None)
    return None


def _generated(value: tuple[Any, ...]) -> list[Told]:
    found, tasks, mask = value[0], array_of("task_ids", value[1]), array_of("valid_mask", value[2])
    if not (tasks.shape == mask.shape == (len(found),)):
        raise DataError("E204", f"{len(found):,} episodes, task_ids {tasks.shape} and valid_mask {mask.shape}")
    out = []
    for episode, task, valid in zip(found, tasks, mask, strict=True):
        if valid:
            one = _one(episode)
            if one is None:
                raise DataError("E206", "an episode has no actions")
            out.append(Told(episode=one.episode, success=one.success, task=int(task)))
    return out
