"""Success on fixed, held-out starts: n of N with Wilson intervals, by task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training_adapters.envs.lanes import Lanes
from training_adapters.envs.starts import HELD_OUT_SEED
from training_adapters.envs.table import Begin, Place
from training_adapters.intervals import Share
from training_adapters.policy import Actor, cameras_of
from training_adapters.stored import fitting, read_json
from vla_data.errors import UsageError
from vla_data.files.write import write_file
from vla_data.safety.text import show


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a policy achieved.

    Attributes:
        success: of all episodes.
        tasks: by prompt.
        malformed: chunks that were no chunk, of all; their episodes ended there, unsolved.
        steps: environment steps of all episodes.
        env: the environment's name.
        starts_seed: of the held-out starts.
        seed: of sampling.
        temperature: of sampling; 0 is greedy.
    """

    success: Share
    tasks: dict[str, Share]
    malformed: Share
    steps: int
    env: str
    starts_seed: int
    seed: int
    temperature: float

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "success": _share(self.success),
            "tasks": {task: _share(share) for task, share in sorted(self.tasks.items())},
            "malformed_chunks": self.malformed.count,
            "chunks": self.malformed.total,
            "steps": self.steps,
            "env": self.env,
            "starts_seed": self.starts_seed,
            "seed": self.seed,
            "temperature": self.temperature,
        }

    @classmethod
    def read(cls, path: Path) -> Evaluation:
        """An evaluation from a file with its `to_json`.

        Raises:
            UsageError: E003, it is not there; E301, it is none.
        """
        facts = read_json(path, root=path.parent)
        with fitting(show(path)):
            return cls.of(facts)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Evaluation:
        """An evaluation from its `to_json`."""
        return cls(
            success=_of(facts["success"]),
            tasks={task: _of(share) for task, share in facts["tasks"].items()},
            malformed=Share(facts["malformed_chunks"], facts["chunks"]),
            **{name: facts[name] for name in ("steps", "env", "starts_seed", "seed", "temperature")},
        )


def evaluate(
    policy: Actor,
    place: Place,
    *,
    episodes: int = 240,
    horizon: int,
    temperature: float = 1.0,
    starts_seed: int = HELD_OUT_SEED,
    seed: int = 0,
    lanes: int | None = None,
) -> Evaluation:
    """Play held-out starts once each.

    Args:
        policy: what acts.
        place: the environment.
        episodes: how many starts.
        horizon: steps of a chunk.
        temperature: of sampling; 0 is greedy.
        starts_seed: which starts; training never uses the default's.
        seed: of sampling.
        lanes: environments side by side; None: as many as the environment's row says.

    Raises:
        UsageError: E001, no episodes.
    """
    if episodes < 1:
        raise UsageError("E001", f"episodes is {episodes}, not 1 or more")
    todo = place.held_out(episodes, seed=starts_seed)[::-1]
    played = _play(policy, place, todo, horizon, temperature, seed, min(lanes or place.row.lanes, episodes))
    tasks: dict[str, list[bool]] = {}
    for task, success in played.ends:
        tasks.setdefault(task, []).append(success)
    return Evaluation(
        success=Share(sum(success for _, success in played.ends), episodes),
        tasks={task: Share(sum(ends), len(ends)) for task, ends in tasks.items()},
        malformed=Share(played.malformed, played.chunks),
        steps=played.steps,
        env=place.name,
        starts_seed=starts_seed,
        seed=seed,
        temperature=temperature,
    )


def kept(path: Path, measure: Callable[[], Evaluation]) -> Evaluation:
    """What is measured once and kept in a file, for a run that is gone on with."""
    if path.exists():
        return Evaluation.read(path)
    found = measure()
    write_file(path, (json.dumps(found.to_json(), indent=2, sort_keys=True) + "\n").encode())
    return found


@dataclass(slots=True)
class _Played:
    ends: list[tuple[str, bool]]
    chunks: int = 0
    malformed: int = 0
    steps: int = 0


def _play(
    policy: Actor,
    place: Place,
    todo: list[Begin],
    horizon: int,
    temperature: float,
    seed: int,
    lanes: int,
) -> _Played:
    generator = torch.Generator().manual_seed(seed)
    out = _Played([])
    side = Lanes(
        place,
        count=lanes,
        horizon=horizon,
        begins=lambda: todo.pop() if todo else None,
        looks=cameras_of(policy),
    )
    side.begin()
    while len(side):
        chunk = policy.act(side.observations(), generator, temperature=temperature)
        bad = chunk.malformed.tolist()
        out.chunks += len(bad)
        out.malformed += sum(bad)
        for moved in side.step(chunk.actions.numpy(), malformed=bad):
            out.steps += len(moved.steps)
            if moved.terminated or moved.truncated:
                out.ends.append((moved.task, moved.success))
    side.close()
    return out


def _share(share: Share) -> dict[str, Any]:
    return {"count": share.count, "total": share.total, "rate": share.rate, "wilson_95": list(share.interval)}


def _of(facts: Mapping[str, Any]) -> Share:
    return Share(facts["count"], facts["total"])


def table(evaluation: Evaluation) -> Sequence[str]:
    """Lines for a person."""
    width = max(map(len, [*evaluation.tasks, "all"]))
    rows = [*sorted(evaluation.tasks.items()), ("all", evaluation.success)]
    return [f"  {name:<{width}}  {share}" for name, share in rows]
