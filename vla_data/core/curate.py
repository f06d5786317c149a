"""Steps applied to one episode, with an account of every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Episode, Schema
from vla_data.core.ledger import Span, spans_of

Lost = tuple[str, str, NDArray[np.int64]]


@runtime_checkable
class Transform(Protocol):
    """A step that drops frames or changes values.

    ``bucket`` ("pruned" or "truncated") and ``reason`` say what the ledger calls the frames that it drops. See
    `Loses`, `Describes` and `Judges` for what it may have besides.
    """

    bucket: ClassVar[str]
    reason: ClassVar[str]

    def apply(self, episode: Episode) -> Episode:
        """A new episode; the argument stays as it is."""
        ...


@runtime_checkable
class Filter(Protocol):
    """A step that keeps or rejects a whole episode."""

    def reject(self, episode: Episode) -> str | None:
        """Why the episode must go, as a snake_case code, or None."""
        ...


@runtime_checkable
class Loses(Protocol):
    """What a `Transform` has besides that drops frames for several reasons."""

    def lost(self, episode: Episode) -> Sequence[Lost]:
        """The frames whose bucket or reason differs from the step's own: (bucket, reason, source positions)."""
        ...


@runtime_checkable
class Describes(Protocol):
    """What a step has besides that changes what features there are or what they mean."""

    def describe(self, schema: Schema) -> Schema:
        """The schema of its results."""
        ...


@runtime_checkable
class Judges(Protocol):
    """What a step has besides that knows a rule of success."""

    def successful(self, episode: Episode) -> bool:
        """Whether the episode is solved."""
        ...


Step = Transform | Filter


@dataclass(frozen=True, slots=True)
class Curated:
    """An episode after all steps.

    Attributes:
        episode: what is left, or None when a filter rejected it.
        reason: the code of that filter, or empty.
        success: whether the first step that knows a success rule calls it solved; without one, whether any
            flag is true; without flags, True.
        spans: the bucket of every source frame.
    """

    episode: Episode | None
    reason: str
    success: bool
    spans: tuple[Span, ...]


def curate(episode: Episode, steps: Sequence[Step]) -> Curated:
    """Apply ``steps`` in order; the first filter that rejects ends it."""
    source = episode
    success = _success(episode, steps)
    lost: list[Lost] = []
    for step in steps:
        if isinstance(step, Filter):
            reason = step.reject(episode)
            if reason is not None:
                everything = [("rejected", reason, source.index)]
                return Curated(None, reason, success, spans_of(len(source), everything))
        else:
            after = step.apply(episode)
            lost.extend(_lost(step, episode, after))
            episode = after
    if any(isinstance(step, Judges) for step in steps):
        episode = replace(episode, meta={**episode.meta, "solved": success})
    kept = ("kept", "", np.unique(episode.index))  # resampling may show a source frame twice
    return Curated(episode, "", success, spans_of(len(source), [*lost, kept]))


def describe(schema: Schema, steps: Sequence[Step]) -> Schema:
    """What episodes of this schema are after ``steps``."""
    for step in steps:
        if isinstance(step, Describes):
            schema = step.describe(schema)
    return schema


def _success(episode: Episode, steps: Sequence[Step]) -> bool:
    for step in steps:
        if isinstance(step, Judges):
            return bool(step.successful(episode))
    return "next.success" not in episode.arrays or bool(episode.success_after.any())


def _lost(step: Transform, before: Episode, after: Episode) -> list[Lost]:
    gone = np.setdiff1d(before.index, after.index)
    out: list[Lost] = []
    if isinstance(step, Loses):
        out = list(step.lost(before))
        for _, _, index in out:
            gone = np.setdiff1d(gone, index, assume_unique=True)
    return [*out, (step.bucket, step.reason, gone)]
