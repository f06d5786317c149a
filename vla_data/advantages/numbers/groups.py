"""RLOO: each rollout against the mean of the others of its group (arXiv 2402.14740).

A group is what started from the same state with the same task under the same policy: give its identity as labels,
never as positions in a batch, so that a lost rollout can't shift others into a wrong group.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np

from vla_data import options as checks
from vla_data.advantages.numbers.flat import Bools, Floats

SINGLES: Final = ("drop", "error", "zero")


@dataclass(frozen=True)
class Rloo:
    """The result of `rloo`.

    Attributes:
        advantages: (N,); 0 where not ``used``.
        used: (N,) bool: rollouts of groups of two or more.
        groups: how many groups there are.
        single: groups of one rollout.
        uniform: groups of two or more whose rewards are all equal: they teach nothing, all their advantages are 0.
        incomplete: groups of another size than ``group_size``, where that was given.
    """

    advantages: Floats
    used: Bools
    groups: int
    single: int
    uniform: int
    incomplete: int


def rloo(
    rewards: Any,
    groups: Any,
    *,
    single: Literal["error", "drop", "zero"] = "error",
    group_size: int | None = None,
) -> Rloo:
    """``A_i = R_i - mean of the group's other R`` = ``K/(K-1) (R_i - mean R)``.

    Args:
        rewards: (N,), one for each rollout.
        groups: (N,) labels: integers or strings, equal for rollouts of one group.
        single: a group of one has no others: an error, dropped (not ``used``), or 0 and used.
        group_size: how many each group should have; others are counted as incomplete and used as they are.

    Raises:
        ValueError: a group of one with ``single="error"``; rewards that are not finite.
    """
    checks.one_of("single", single, SINGLES)
    reward = np.asarray(rewards, dtype=np.float64)
    labels = np.asarray(groups)
    if reward.ndim != 1 or labels.shape != reward.shape:
        raise ValueError(f"rewards have shape {reward.shape} and groups {labels.shape}, not (N,) both")
    if not np.isfinite(reward).all():
        raise ValueError("a reward is not finite")
    if labels.dtype.kind not in "iuUS":
        raise ValueError(f"groups are {labels.dtype}, not integers or strings")
    _, first, member = np.unique(labels, return_index=True, return_inverse=True)
    member = member.reshape(-1).astype(np.int64)
    count = np.bincount(member, minlength=len(first))
    alone = count == 1
    if alone.any() and single == "error":
        raise ValueError(f"{int(alone.sum())} groups have only one rollout; a group needs two to compare")
    # Around a group's first reward, so that equal rewards give exactly 0 whatever their size.
    shifted = reward - reward[first][member]
    total = np.bincount(member, weights=shifted, minlength=len(first))
    others = (total[member] - shifted) / np.maximum(count[member] - 1, 1)
    used = ~alone[member] if single == "drop" else np.ones(len(reward), dtype=np.bool_)
    moved = np.bincount(member, weights=shifted != 0, minlength=len(first)) > 0
    return Rloo(
        advantages=np.where(alone[member], 0.0, shifted - others),
        used=used,
        groups=len(first),
        single=int(alone.sum()),
        uniform=int((~alone & ~moved).sum()),
        incomplete=0 if group_size is None else int((count != group_size).sum()),
    )


def group_label(*, task: str, initial_state: Any, policy: str, env: str = "", seed: int | None = None) -> str:
    """A label for `rloo`: SHA-256 over everything that makes rollouts comparable.

    Args:
        task: the instruction or the task's id.
        initial_state: the raw state of the simulator at the start, any shape; taken as little-endian float32.
        policy: version of the policy that acted.
        env: which environment.
        seed: of the environment, where it has one.
    """
    sha256 = hashlib.sha256()
    state = np.ascontiguousarray(np.asarray(initial_state).astype("<f4"))
    for part in (task.encode(), state.tobytes(), policy.encode(), env.encode(), repr(seed).encode()):
        sha256.update(len(part).to_bytes(8, "little"))
        sha256.update(part)
    return sha256.hexdigest()
