"""Collects what a table needs of the episodes of a source, one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from vla_data.actions import Convention
from vla_data.core import Array, Episode, Schema
from vla_data.errors import UsageError
from vla_data.measuring import actions, likeness, motion, pictures
from vla_data.measuring.likeness import Sketch
from vla_data.measuring.motion import Scale
from vla_data.measuring.pictures import Seen
from vla_data.measuring.row import Row

ACTION: Final = "action"
STATE: Final = "observation.state"


@dataclass(slots=True)
class _Kept:
    row: Row
    seen: Seen
    fps: float
    vectors: dict[str, Array]


@dataclass
class Gauge:
    """Sees episodes; `rows` is asked for when all were seen. Actions and states are held in memory.

    Attributes:
        video: also look at pictures inside of videos.
    """

    video: bool = False
    schema: Schema | None = None
    _kept: list[_Kept] = field(default_factory=list)

    def see(self, position: int, schema: Schema, episode: Episode) -> None:
        """One more episode, at a position of its source."""
        self.schema = self.schema or schema
        seen = pictures.look(episode, video=self.video)
        row = Row(
            position=position,
            episode=episode.id,
            task=episode.task,
            steps=len(episode),
            seconds=len(episode) / schema.fps if schema.fps else None,
            success=episode.succeeded,
            digest=likeness.digest(episode),
            frozen=seen.count(seen.frozen),
            black=seen.count(seen.black),
            damaged=seen.count(seen.damaged),
            cameras=str(seen),
        )
        vectors = {name: found for name in (ACTION, STATE) if (found := vector(name, episode)) is not None}
        self._kept.append(_Kept(row, seen, schema.fps, vectors))

    def fail(self, position: int, name: str, error: str) -> None:
        """One more episode, which can't be read."""
        self._kept.append(_Kept(Row(position=position, episode=name, error=error), Seen(), 0.0, {}))

    def convention(self, name: str) -> Convention | None:
        """Of a feature; None where it has none, or one that can't be read."""
        feature = self.schema.features.get(name) if self.schema is not None else None
        try:
            return None if feature is None else Convention.from_json(feature.convention)
        except UsageError:
            return None

    def pairs(self) -> tuple[list[Array], list[Array]]:
        """Actions and states of the episodes that have both."""
        both = [kept.vectors for kept in self._kept if len(kept.vectors) == 2]
        return [one[ACTION] for one in both], [one[STATE] for one in both]

    def rows(self) -> list[Row]:
        """Every episode that was seen, in that order."""
        lengths = [kept.row.steps for kept in self._kept if kept.row.steps is not None]
        usual = float(np.median(lengths)) if lengths else 0.0
        scales = {name: scale for name in (ACTION, STATE) if (scale := self._scale(name)) is not None}
        judge = _Judge(self.convention(ACTION), self.convention(STATE), scales, self._limits(), usual)
        rows = [judge.judged(kept) for kept in self._kept]
        known = [at for at, row in enumerate(rows) if not row.error]
        same = likeness.copies([rows[at].digest for at in known])
        near = likeness.near_copies([_sketch(self._kept[at], scales) for at in known])
        for at, alike, close in zip(known, same, near, strict=True):
            rows[at] = replace(
                rows[at],
                copies=alike.count,
                copy_of=rows[known[alike.first]].episode if alike.count else "",
                near_copies=None if close is None else close.count,
                near_copy_of=rows[known[close.first]].episode if close is not None and close.count else "",
            )
        return rows

    def _arrays(self, name: str) -> list[Array]:
        """Of all episodes, if they have the same width."""
        known = [kept.vectors[name] for kept in self._kept if name in kept.vectors]
        return known if len({one.shape[1] for one in known}) == 1 else []

    def _scale(self, name: str) -> Scale | None:
        known = self._arrays(name)
        return Scale.of(known) if known else None

    def _limits(self) -> tuple[Array, Array, Array]:
        """Of each number of the action: the least, the most, and q99 - q01, with 0 included unless absolute."""
        known = self._arrays(ACTION)
        if not known:
            return (np.zeros(0),) * 3
        table = np.concatenate(known).astype(np.float64)
        q01, q99 = np.quantile(table, [0.01, 0.99], axis=0)
        convention = self.convention(ACTION)
        if convention is not None and convention.kind != "absolute":
            q01, q99 = np.minimum(q01, 0), np.maximum(q99, 0)
        return table.min(axis=0), table.max(axis=0), q99 - q01


@dataclass(frozen=True, slots=True)
class _Judge:
    """Measures one episode by what is usual of all.

    Attributes:
        asked: convention of the actions, if there is one.
        told: of the states.
        scales: feature -> what is usual.
        limits: see `Gauge._limits`.
        usual: median of the steps.
    """

    asked: Convention | None
    told: Convention | None
    scales: Mapping[str, Scale]
    limits: tuple[Array, Array, Array]
    usual: float

    def judged(self, kept: _Kept) -> Row:
        row, action, state = kept.row, kept.vectors.get(ACTION), kept.vectors.get(STATE)
        if row.steps is not None and self.usual:
            row = replace(row, length_ratio=row.steps / self.usual)
        if action is not None and ACTION in self.scales and self.asked is not None:
            low, high, spans = self.limits
            idle = actions.idle_steps(action, self.asked, spans)
            at = actions.gripper_at(self.asked, action.shape[1])
            row = replace(
                row,
                idle=None if idle is None else float(idle.mean()),
                outside=actions.outside_steps(action, self.asked),
                asked_path=actions.asked_path(action, self.asked),
                switched=None
                if at is None
                else actions.switches(action[:, at], self.asked, float(low[at]), float(high[at])),
            )
        if state is not None and STATE in self.scales:
            scale = self.scales[STATE]
            row = replace(
                row,
                still=float(motion.still_steps(state, scale).mean()) if len(state) > 1 else None,
                jerk=motion.jerk(state, scale, kept.fps, self.told) if kept.fps else None,
                path=motion.path(state, self.told),
            )
        return row


def vector(name: str, episode: Episode) -> Array | None:
    """A feature of an episode as ``(T, width)``; None where it is none, or has numbers that are not finite."""
    array = episode.arrays.get(name)
    if array is None or array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
        return None
    return array if np.isfinite(array).all() else None


def _sketch(kept: _Kept, scales: Mapping[str, Scale]) -> Sketch | None:
    used = [name for name in scales if name in kept.vectors]
    if not used:
        return None
    motions: Sequence[Array] = [likeness.moments(kept.vectors[name], scales[name].spans) for name in used]
    cameras = tuple(name for name, _ in kept.seen.hashes)
    return Sketch(
        digest=kept.row.digest,
        group=(kept.row.task, cameras, tuple(used)),
        length=kept.row.steps or 0,
        motion=np.concatenate(motions),
        hashes=tuple(value for _, three in kept.seen.hashes for value in three),
    )
