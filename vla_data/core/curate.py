"""Steps applied to one episode, with an account of every frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Episode, EpisodeMeta, Schema
from vla_data.core.contract import bucket_of, check_result, reason_of, verdict_of
from vla_data.core.ledger import Span, spans_of
from vla_data.errors import VlaDataError
from vla_data.safety.text import show

Lost = tuple[str, str, NDArray[np.int64]]


@runtime_checkable
class Transform(Protocol):
    """A step that drops frames or changes values.

    ``bucket`` ("pruned", which it is without one, or "truncated") and ``reason`` (else the name of the class, in
    snake case) say what the ledger calls the frames that it drops. See `Loses`, `Describes` and `Judges` for what
    it may have besides.
    """

    def apply(self, episode: Episode) -> Episode:
        """A new episode; the argument stays as it is."""
        ...


@runtime_checkable
class Filter(Protocol):
    """A step that keeps or rejects a whole episode."""

    def reject(self, episode: Episode) -> str | bool | None:
        """Why the episode must go, as a snake_case code, or None; True stands for the step's ``reason``."""
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


@runtime_checkable
class Remarks(Protocol):
    """What a step has besides whose options may not be meant for such episodes, and a sink that does not hold all
    of them.
    """

    def remarks(self, schema: Schema) -> Sequence[str]:
        """Lines for whoever started the run, of the episodes' schema."""
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
        schema: of the episode, where that of the source's was given.
    """

    episode: Episode | None
    reason: str
    success: bool
    spans: tuple[Span, ...]
    schema: Schema | None = None


def curate(episode: Episode, steps: Sequence[Step], schema: Schema | None = None) -> Curated:
    """Apply ``steps`` in order; the first filter that rejects ends it.

    Args:
        episode: as it was read.
        steps: transforms and filters.
        schema: of the episode; None: results are not compared with what the steps describe.

    Raises:
        UsageError: E022 when a step gives what it must not, see `vla_data.core.contract`.
    """
    source = episode
    success = _success(episode, steps)
    lost: list[Lost] = []
    for step in steps:
        if isinstance(step, Filter):
            reason = verdict_of(step, _called(step, step.reject, episode))
            if reason is not None:
                everything = [("rejected", reason, source.index)]
                return Curated(None, reason, success, spans_of(len(source), everything))
        else:
            result = _called(step, step.apply, episode)
            described = describe(schema, [step]) if schema is not None else None
            after = check_result(step, episode, result, schema, described)
            lost.extend(_lost(step, episode, after))
            episode, schema = after, described
    if any(isinstance(step, Judges) for step in steps):
        episode = replace(episode, meta=EpisodeMeta(episode.meta, solved=success))
    kept = ("kept", "", np.unique(episode.index))  # resampling may show a source frame twice
    return Curated(episode, "", success, spans_of(len(source), [*lost, kept]), schema)


def _called(step: Step, method: Callable[[Episode], object], episode: Episode) -> object:
    try:
        return method(episode)
    except VlaDataError:
        raise
    except Exception as error:  # a defect of the step
        error.add_note(f"in step {type(step).__qualname__}, of episode {show(episode.id)}")
        raise


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
    return episode.succeeded is not False


def _lost(step: Transform, before: Episode, after: Episode) -> list[Lost]:
    same = after.index is before.index
    gone = np.empty(0, dtype=np.int64) if same else np.setdiff1d(before.index, after.index)
    out: list[Lost] = []
    if isinstance(step, Loses):
        out = list(step.lost(before))
        for _, _, index in out if len(gone) else ():
            gone = np.setdiff1d(gone, index, assume_unique=True)
    return [*out, (bucket_of(step), reason_of(step), gone)]
