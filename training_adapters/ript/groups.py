"""Groups of rollouts from one recorded start, and the advantages of what is left of them.

A rollout belongs to its group by what it says of itself, its task, ``init_hash`` and policy version, and never by
its place in a list: one that is lost or there twice leaves all others in their groups.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training_adapters.envs.table import Begin
from vla_data.advantages.numbers.groups import rloo

KEPT, UNIFORM, SINGLE = "kept", "uniform", "single"
VERDICTS: Final = (KEPT, UNIFORM, SINGLE)
"""What becomes of a group: it teaches; all of its rewards are equal; fewer than two of its rollouts are whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member(Begin):
    """How a rollout of a group begins.

    Attributes:
        update: the policy's version: updates before it acted.
        wave: of groups that were played together, in this update.
        group: of the wave.
        member: of the group.
    """

    update: int
    wave: int
    group: int
    member: int

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What no other rollout of a run has."""
        return self.update, self.wave, self.group, self.member

    def facts(self) -> dict[str, Any]:
        """See `training_adapters.envs.table.Begin`; with the recorded start itself, to begin there again."""
        facts = Begin.facts(self) | {"wave": self.wave, "group": self.group, "member": self.member}
        return facts if self.initial_state is None else facts | {"initial_state": dict(self.initial_state)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a rollout came to.

    Attributes:
        task: its prompt.
        init_hash: of its start.
        policy_version: of the policy that acted.
        identity: of the rollout; see `Member.identity`.
        reward: of the whole rollout.
        file: its name in the folder of rollouts.
    """

    task: str
    init_hash: str
    policy_version: int
    identity: tuple[int, int, int, int]
    reward: float
    file: str = ""

    @property
    def label(self) -> str:
        """Equal for rollouts that may be compared."""
        return json.dumps([self.task, self.init_hash, self.policy_version])


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Rollouts with their advantages.

    Attributes:
        outcomes: each once, in the order of their identities.
        advantages: ``(N,)``, by `vla_data.advantages.rloo`: the reward less the mean of the group's others.
        used: ``(N,)`` bool: False where a group has one rollout.
        groups: how many there are.
        single: of them with one rollout.
        uniform: with equal rewards.
        incomplete: of another size than they should have.
        repeated: rollouts that were given more than once, and count once.
    """

    outcomes: tuple[Outcome, ...]
    advantages: NDArray[np.float64]
    used: NDArray[np.bool_]
    groups: int
    single: int
    uniform: int
    incomplete: int
    repeated: int


def compare(outcomes: Iterable[Outcome], *, group_size: int | None = None) -> Compared:
    """Leave-one-out advantages of rollouts, whatever is missing or there twice.

    Args:
        outcomes: in any order.
        group_size: rollouts that a group should have.

    Raises:
        ValueError: a reward is not finite, or two rollouts of one identity differ.
    """
    once: dict[tuple[int, int, int, int], Outcome] = {}
    repeated = 0
    for outcome in outcomes:
        repeated += outcome.identity in once
        before = once.setdefault(outcome.identity, outcome)
        if (before.label, before.reward) != (outcome.label, outcome.reward):
            raise ValueError(
                f"two rollouts are number {outcome.identity} and differ; one of them is of another run"
            )
    kept = tuple(once[identity] for identity in sorted(once))
    if not kept:
        empty = np.zeros(0)
        return Compared(kept, empty, empty.astype(np.bool_), 0, 0, 0, 0, repeated)
    found = rloo(
        [outcome.reward for outcome in kept],
        [outcome.label for outcome in kept],
        single="drop",
        group_size=group_size,
    )
    return Compared(
        kept,
        found.advantages,
        found.used,
        found.groups,
        found.single,
        found.uniform,
        found.incomplete,
        repeated,
    )


def verdict(rewards: Sequence[float]) -> str:
    """What becomes of a group whose whole rollouts have these rewards: one of `VERDICTS`.

    A group without rollouts is ``single``, not ``uniform``: nothing is known of it.
    """
    if len(rewards) < 2:
        return SINGLE
    return UNIFORM if len(set(rewards)) == 1 else KEPT
