"""Steps applied to one episode, with an account of every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_data.core import Episode, Schema
from vla_data.core.ledger import Span, spans_of


@runtime_checkable
class Transform(Protocol):
    """A step that drops frames or changes values.

    ``bucket`` ("pruned" or "truncated") and ``reason`` say what the ledger calls the frames that it drops. A
    step that drops for several reasons also has ``lost(episode)``: (bucket, reason, source positions) of
    those that differ. One that changes what features there are or what they mean has ``describe(schema)``,
    which gives the schema of its results.
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
    lost: list[tuple[str, str, NDArray[np.int64]]] = []
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
    if any(hasattr(step, "successful") for step in steps):
        episode = replace(episode, meta={**episode.meta, "solved": success})
    kept = ("kept", "", np.unique(episode.index))  # resampling may show a source frame twice
    return Curated(episode, "", success, spans_of(len(source), [*lost, kept]))


def describe(schema: Schema, steps: Sequence[Step]) -> Schema:
    """What episodes of this schema are after ``steps``."""
    for step in steps:
        change = getattr(step, "describe", None)
        if change is not None:
            schema = change(schema)
    return schema


def _success(episode: Episode, steps: Sequence[Step]) -> bool:
    for step in steps:
        rule = getattr(step, "successful", None)
        if rule is not None:
            return bool(rule(episode))
    return "next.success" not in episode.arrays or bool(episode.success_after.any())


def _lost(step: Transform, before: Episode, after: Episode) -> list[tuple[str, str, NDArray[np.int64]]]:
    gone = np.setdiff1d(before.index, after.index)
    out: list[tuple[str, str, NDArray[np.int64]]] = []
    if hasattr(step, "lost"):
        out = list(step.lost(before))
        for _, _, index in out:
            gone = np.setdiff1d(gone, index, assume_unique=True)
    return [*out, (step.bucket, step.reason, gone)]
