"""Every wave of groups that was played, as a line of JSON: what a run goes on from, and what adds up.

    {"update": 3, "wave": 0, "groups": [...], "skipped": [...], "again": [...]}

A group has ``task``, ``init_hash``, ``verdict`` and ``members``: each the ``file`` and ``reward`` of a rollout, or
null where a malformed chunk ended it. A line is written when all rollouts of its wave are on the disk; a line that
was cut off by the end of a process is no line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from training_adapters.ript.groups import KEPT, VERDICTS, Outcome
from training_adapters.stored import read_lines
from vla_data.errors import UsageError
from vla_data.files.write import machine_errors, open_append
from vla_data.safety.text import show

NAME: Final = "groups.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A rollout.

    Attributes:
        file: its name in the folder of rollouts.
        reward: of the whole of it.
        success: whether it solved its task.
    """

    file: str
    reward: float
    success: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rollouts from one start.

    Attributes:
        task: the prompt.
        init_hash: of the start.
        verdict: see `training_adapters.ript.groups.VERDICTS`.
        members: by their number; None: malformed.
    """

    task: str
    init_hash: str
    verdict: str
    members: tuple[Played | None, ...]

    @property
    def whole(self) -> list[Played]:
        """The rollouts that are there."""
        return [member for member in self.members if member is not None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """Groups that were played together.

    Attributes:
        update: the policy's version.
        wave: its number in the update.
        groups: by their number.
        skipped: starts that were drawn and skipped, since they are solved.
        again: starts of these groups that had been skipped often enough.
    """

    update: int
    wave: int
    groups: tuple[Group, ...]
    skipped: tuple[str, ...] = ()
    again: tuple[str, ...] = ()

    def outcomes(self, *, dropped: bool) -> Iterator[Outcome]:
        """Its rollouts; those of groups that teach nothing too where ``dropped``."""
        for number, group in enumerate(self.groups):
            if group.verdict != KEPT and not dropped:
                continue
            for member, played in enumerate(group.members):
                if played is not None:
                    yield Outcome(
                        task=group.task,
                        init_hash=group.init_hash,
                        policy_version=self.update,
                        identity=(self.update, self.wave, number, member),
                        reward=played.reward,
                        file=played.file,
                    )


class Ledger:
    """The waves of a run.

    Args:
        folder: of the run.

    Raises:
        UsageError: E301, a line is none of a wave.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._waves: dict[tuple[int, int], Wave] = {}
        lines = read_lines(self._path, root=folder)
        for number, line in enumerate(lines, 1):
            self._keep(_wave(line, number))
        with machine_errors(f"cannot write {NAME}"):
            size = sum(map(len, lines))
            if os.path.lexists(self._path) and self._path.stat().st_size != size:
                with open_append(self._path) as file:
                    file.truncate(size)

    def __iter__(self) -> Iterator[Wave]:
        """In the order in which they were played."""
        return iter(self._waves.values())

    def get(self, update: int, wave: int) -> Wave | None:
        """A wave, if it was played."""
        return self._waves.get((update, wave))

    def add(self, wave: Wave) -> None:
        """Note a wave whose rollouts are on the disk.

        Raises:
            MachineError: the line can't be written.
        """
        with machine_errors(f"cannot write {NAME}"), open_append(self._path) as file:
            file.write((json.dumps(asdict(wave)) + "\n").encode())
            os.fsync(file.fileno())
        self._keep(wave)

    def files(self) -> set[str]:
        """Names of all rollouts in it."""
        return {played.file for wave in self for group in wave.groups for played in group.whole}

    def _keep(self, wave: Wave) -> None:
        if (wave.update, wave.wave) in self._waves:
            raise UsageError("E301", f"{NAME} has wave {wave.wave} of update {wave.update} twice")
        self._waves[wave.update, wave.wave] = wave


def sums(waves: Iterator[Wave] | Ledger) -> dict[str, int]:
    """Counts over waves: starts that were drawn, groups by what became of them, rollouts."""
    out = dict.fromkeys(("starts", "skipped", "again", "groups", *VERDICTS, "rollouts", "malformed", "solved"), 0)
    for wave in waves:
        out["starts"] += len(wave.groups) + len(wave.skipped)
        out["skipped"] += len(wave.skipped)
        out["again"] += len(wave.again)
        for group in wave.groups:
            out["groups"] += 1
            out[group.verdict] += 1
            out["rollouts"] += len(group.whole)
            out["malformed"] += len(group.members) - len(group.whole)
            out["solved"] += sum(played.success for played in group.whole)
    return out


def _wave(line: bytes, number: int) -> Wave:
    try:
        facts: dict[str, Any] = json.loads(line)
        groups = tuple(
            Group(**(group | {"members": tuple(_played(member) for member in group["members"])}))
            for group in facts["groups"]
        )
        return Wave(
            **(facts | {"groups": groups, "skipped": tuple(facts["skipped"]), "again": tuple(facts["again"])})
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError("E301", f"line {number} of {NAME} is no wave of groups: {show(error)}") from None


def _played(member: Mapping[str, Any] | None) -> Played | None:
    return None if member is None else Played(**member)
