"""Waves of groups: K rollouts from each recorded start, written as they come, and gone on with after any end.

Starts and sampling of a wave follow from the run's seed, the update and the wave. A run that was killed in a wave
plays it again, writes what is missing, and learns from what lies on the disk: no rollout is lost, none is there
twice, and the numbers are those of a run that was never killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import torch

import vla_data as vd
from training_adapters.collect import CAMERA, Recorder
from training_adapters.envs.lanes import Lanes
from training_adapters.envs.table import Begin, Place
from training_adapters.policy import Actor, Chunk
from training_adapters.ript.groups import KEPT, Member, Outcome, verdict
from training_adapters.ript.ledger import Group, Ledger, Played, Wave
from training_adapters.ript.rollouts import Rollout, read
from training_adapters.ript.skips import AGAIN, SKIP, Skips
from vla_data.errors import UsageError
from vla_data.safety.text import show

ROLLOUTS: Final = "rollouts"
"""Where a run's rollouts are, in its folder."""

REWARDS: Final = ("success", "return")

Identity: TypeAlias = tuple[int, ...]
"""Of a rollout; see `training_adapters.ript.groups.Member.identity`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How groups are collected.

    Attributes:
        starts: groups of a wave.
        size: rollouts of a group, K.
        goal: rollouts of groups that teach, for which waves are played; 0: one wave.
        waves: at most.
        pool: recorded starts that groups are drawn from; 0: each group has a new one.
        drop_uniform: groups of equal rewards are left out of what is learnt.
        skip: starts that are solved are skipped.
        threshold: how often; see `training_adapters.ript.skips.Skips`.
        reward: ``success``: 1 or 0; ``return``: the sum of the rewards.
        lanes: environments side by side.
        temperature: of sampling.
        images: whether the camera is recorded too.
        seed: of starts and sampling.
    """

    starts: int
    size: int
    goal: int = 0
    waves: int = 1
    pool: int = 0
    drop_uniform: bool = True
    skip: bool = True
    threshold: int = 3
    reward: str = "success"
    lanes: int = 96
    temperature: float = 1.0
    images: bool = False
    seed: int = 0


class GroupCollector:
    """Collects what an update learns from.

    Args:
        place: the environment.
        folder: of the run.
        plan: see there.
        horizon: steps of a chunk.
        tokens: the most tokens that one has.

    Attributes:
        ledger: of all waves.
        skips: what is known of starts, after the last wave.

    Raises:
        UsageError: E301, the folder has rollouts that are not of such a run.
    """

    def __init__(self, place: Place, folder: Path, plan: Plan, *, horizon: int, tokens: int) -> None:
        self._place, self._plan = place, plan
        self._horizon, self._tokens = horizon, tokens
        self.folder = folder / ROLLOUTS
        self.ledger = Ledger(folder)
        self.skips = Skips(solved=plan.size, threshold=plan.threshold)
        self._pool = _pool(place, plan)
        self._read: dict[str, Rollout] = {}
        self._found = self._listed(_unknown(self.folder, self.ledger.files()))
        self._lanes: Lanes | None = None
        self._queue: list[Member] = []

    def close(self) -> None:
        """Give the environments' memory back."""
        if self._lanes is not None:
            self._lanes.close()

    def collect(self, policy: Actor, update: int) -> list[Wave]:
        """The waves of an update, as far as they are not on the disk already.

        Args:
            policy: what acts.
            update: its version. They are collected in turn, from 0.

        Raises:
            MachineError: rollouts can't be written.
            UsageError: E301, rollouts on the disk are not of this run.
        """
        plan, out, taught = self._plan, list[Wave](), 0
        self._read = {name: self._read[name] for name in (there.file for there in self._found.values())}
        used: set[str] = set()
        while len(out) < plan.waves and (not out or taught < plan.goal):
            wave = self.ledger.get(update, len(out)) or self._play(policy, update, len(out), used)
            self._note(wave)
            used |= {group.init_hash for group in wave.groups} | set(wave.skipped)
            taught += sum(len(group.whole) for group in wave.groups if group.verdict == KEPT)
            out.append(wave)
            if plan.pool and len(used) >= plan.pool:
                break
        for identity, there in self._found.items():
            if identity[0] <= update:
                raise UsageError("E301", f"{show(there.file)} is of another run: this one has not played it")
        return out

    def recall(self, update: int) -> None:
        """Know of starts what was known before an update, from the ledger."""
        self.skips = Skips(solved=self._plan.size, threshold=self._plan.threshold)
        for wave in self.ledger:
            if wave.update < update:
                self._note(wave)

    def outcomes(self, waves: Iterable[Wave], *, dropped: bool = False) -> list[Outcome]:
        """The rollouts of waves that are learnt from; all of them where ``dropped``."""
        dropped = dropped or not self._plan.drop_uniform
        return [outcome for wave in waves for outcome in wave.outcomes(dropped=dropped)]

    def read(self, outcomes: Sequence[Outcome]) -> list[Rollout]:
        """Rollouts, from the disk; those that were read already are not read again."""
        missing = [outcome.file for outcome in outcomes if outcome.file not in self._read]
        self._read |= dict(zip(missing, read(self.folder, missing), strict=True))
        return [self._read[outcome.file] for outcome in outcomes]

    def _note(self, wave: Wave) -> None:
        results = {group.init_hash: [played.success for played in group.whole] for group in wave.groups}
        self.skips.note(results, skipped=wave.skipped, again=wave.again)

    def _play(self, policy: Actor, update: int, number: int, used: set[str]) -> Wave:
        begins, skipped, again = self._draw(update, number, used)
        members = [
            Member(
                seed=begin.seed,
                initial_state=begin.initial_state,
                init_hash=begin.init_hash,
                update=update,
                wave=number,
                group=group,
                member=member,
            )
            for group, begin in enumerate(begins)
            for member in range(self._plan.size)
        ]
        tasks, bad = self._run(policy, members, update, number)
        groups = tuple(
            self._group(members[at : at + self._plan.size], tasks, bad)
            for at in range(0, len(members), self._plan.size)
        )
        wave = Wave(update=update, wave=number, groups=groups, skipped=tuple(skipped), again=tuple(again))
        self.ledger.add(wave)
        return wave

    def _draw(self, update: int, number: int, used: set[str]) -> tuple[list[Begin], list[str], list[str]]:
        """The starts of a wave, those that were skipped, and those that are played again after it."""
        random = np.random.default_rng((self._plan.seed, 5, update, number))
        begins: list[Begin] = []
        skipped: list[str] = []
        again: list[str] = []
        for begin in self._candidates(random):
            if len(begins) == self._plan.starts:
                break
            if begin.init_hash in used:
                continue
            decision = self.skips.decide(begin.init_hash) if self._plan.skip else ""
            if decision == SKIP:
                skipped.append(begin.init_hash)
                continue
            if decision == AGAIN:
                again.append(begin.init_hash)
            begins.append(begin)
        return begins, skipped, again

    def _candidates(self, random: np.random.Generator) -> Iterable[Begin]:
        if self._pool:
            return [self._pool[place] for place in random.permutation(len(self._pool))]
        return (self._place.draw(random) for _ in range(self._plan.starts))

    def _run(
        self, policy: Actor, members: Sequence[Member], update: int, number: int
    ) -> tuple[dict[str, str], set[Identity]]:
        """Play a wave and write what is missing; prompts by init_hash, and which rollouts were malformed."""
        for member in members:
            there = self._found.get(member.identity)
            if there is not None and there.init_hash != member.init_hash:
                raise UsageError("E301", f"{show(there.file)} is of another run: it began elsewhere")
        self._queue = list(members)[::-1]
        state = np.random.SeedSequence((self._plan.seed, 6, update, number)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]) >> 1)
        tasks: dict[str, str] = {}
        bad: set[Identity] = set()
        side = self._side()
        side.begin()
        with Recorder(
            self.folder, self._place.row, tokens=self._tokens, wants=lambda begin: not self._is_found(begin)
        ) as recorder:
            recorder.version = update
            while len(side):
                chunk: Chunk = policy.act(side.observations(), generator, temperature=self._plan.temperature)
                malformed = chunk.malformed.tolist()
                moves = side.step(chunk.actions.numpy(), malformed=malformed)
                recorder(chunk, moves)
                for moved, is_bad in zip(moves, malformed, strict=True):
                    tasks[moved.begin.init_hash] = moved.task
                    if is_bad and isinstance(moved.begin, Member):
                        bad.add(moved.begin.identity)
            new = [path.name for path in recorder.files]
        self._found |= self._listed(new)
        return tasks, bad

    def _group(self, members: Sequence[Member], tasks: dict[str, str], bad: set[Identity]) -> Group:
        played: list[Played | None] = []
        for member in members:
            there = self._found.pop(member.identity, None)
            if there is None and member.identity not in bad:
                raise UsageError("E301", f"the rollout {member.identity} was played and is not on the disk")
            played.append(None if there is None else there.played(self._plan.reward))
        rewards = [one.reward for one in played if one is not None]
        return Group(
            task=tasks[members[0].init_hash],
            init_hash=members[0].init_hash,
            verdict=verdict(rewards),
            members=tuple(played),
        )

    def _listed(self, names: Sequence[str]) -> dict[Identity, _There]:
        """Rollouts by identity."""
        out: dict[Identity, _There] = {}
        rollouts = read(self.folder, names) if names else []
        for name, rollout in zip(names, rollouts, strict=True):
            facts = rollout.facts
            try:
                identity = tuple(int(facts[key]) for key in ("policy_version", "wave", "group", "member"))
                there = _There(name, str(facts["init_hash"]), rollout.success, float(rollout.reward.sum()))
            except (KeyError, TypeError, ValueError):
                raise UsageError(
                    "E301", f"{show(name)} is no rollout of a group; the folder is another's"
                ) from None
            if out.setdefault(identity, there) is not there:
                raise UsageError("E301", f"{show(name)} is the same rollout as {show(out[identity].file)}")
        self._read |= dict(zip(names, rollouts, strict=True))
        return out

    def _is_found(self, begin: Begin) -> bool:
        return isinstance(begin, Member) and begin.identity in self._found

    def _side(self) -> Lanes:
        if self._lanes is None:
            self._lanes = Lanes(
                self._place,
                count=min(self._plan.lanes, self._plan.starts * self._plan.size),
                horizon=self._horizon,
                begins=lambda: self._queue.pop() if self._queue else None,
                cameras=(CAMERA,) if self._plan.images else (),
            )
        return self._lanes


@dataclass(frozen=True, slots=True)
class _There:
    """A rollout that lies on the disk, and that no wave of the ledger has yet."""

    file: str
    init_hash: str
    success: bool
    total: float

    def played(self, reward: str) -> Played:
        worth = float(self.success) if reward == "success" else self.total
        return Played(file=self.file, reward=worth, success=self.success)


def _pool(place: Place, plan: Plan) -> list[Begin]:
    random = np.random.default_rng((plan.seed, 7))
    return [place.draw(random) for _ in range(plan.pool)]


def _unknown(folder: Path, known: set[str]) -> list[str]:
    """The rollouts of a folder that are not known."""
    if not folder.is_dir() or not any(folder.glob("*.npz")):
        return []
    return [ref.id for ref in vd.open_source(f"ppo_rollout:{folder}").episodes() if ref.id not in known]
