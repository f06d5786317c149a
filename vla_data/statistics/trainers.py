"""The trainers whose files can be written: names and modules, one file each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar, Protocol

import numpy as np

from vla_data.actions.agreement import Elements
from vla_data.core import Json
from vla_data.core.findings import Finding
from vla_data.errors import UsageError
from vla_data.formats.tables import load_trainer
from vla_data.statistics.collect import Summary
from vla_data.statistics.columns import Columns
from vla_data.statistics.health import judged
from vla_data.statistics.mixture import Mixture
from vla_data.statistics.vectors import Described, VectorStats

Subtracted = tuple[str, str, Sequence[tuple[int, int]]]
"""Array of actions, array of states, and (element of the one, element of the other) that are subtracted."""

Meant = Callable[[str], Elements]
"""Name of an array -> what is declared of each of its numbers."""


class Writer(Protocol):
    """Statistics in a trainer's own form. A frozen dataclass whose fields are the options.

    ``keyed`` tells whether its file holds an entry for each dataset, ``takes_mixtures`` whether an entry may be of
    a mixture, ``indent`` is that of its JSON.
    """

    keyed: ClassVar[bool]
    takes_mixtures: ClassVar[bool]
    indent: ClassVar[int | None]

    @property
    def file(self) -> str:
        """The name that the trainer looks for."""
        ...

    @property
    def names(self) -> Sequence[str] | None:
        """Arrays to read; None for all numbers."""
        ...

    @property
    def subtracted(self) -> Sequence[Subtracted]:
        """Which numbers of states are subtracted from those of actions."""
        ...

    def doubts(self, meant: Meant) -> Iterable[Finding]:
        """What is asked for against what is declared of the numbers of an array."""
        ...

    def rows(self, arrays: Columns) -> Columns:
        """What of an episode is counted."""
        ...

    def entry(self, summary: Summary, name: str) -> dict[str, Json]:
        """The statistics of one dataset or mixture called ``name``."""
        ...

    def document(self, entries: Mapping[str, dict[str, Json]]) -> dict[str, Json]:
        """The whole file, of one entry or, where ``keyed``, of any number."""
        ...

    def judge(self, summary: Summary) -> list[Finding]:
        """What will hurt whoever trains with these statistics."""
        ...


class BaseWriter:
    """What most trainers' writers do alike."""

    takes_mixtures: ClassVar[bool] = True

    @property
    def subtracted(self) -> Sequence[Subtracted]:
        """See `Writer`: none."""
        return ()

    def doubts(self, meant: Meant) -> Iterable[Finding]:
        """See `Writer`: none."""
        return ()

    def judge(self, summary: Summary) -> list[Finding]:
        """See `Writer`."""
        return judged(summary)


def writer(trainer: str, **options: Any) -> Writer:
    """The writer for a trainer.

    Raises:
        UsageError: E001 for an option that this trainer's file has no place for.
    """
    kind = load_trainer(trainer, "stats")
    known = {field.name for field in fields(kind)}
    for option in options:
        if option not in known:
            flag = option.replace("_", "-")
            raise UsageError("E001", f"--{flag} does not work with {trainer}'s statistics")
    made: Writer = kind(**options)
    return made


def pool(summaries: Sequence[Summary], weights: Sequence[float] | None = None) -> Summary:
    """Several datasets as one: all their steps, or with ``weights`` the mixture that draws datasets by these.

    Raises:
        UsageError: E005 where they have not the same features, E001 for weights that are none.
    """
    shapes = {tuple(sorted((name, len(s.mean)) for name, s in summary.features.items())) for summary in summaries}
    if len(shapes) != 1:
        raise UsageError("E005", "the datasets do not have the same features; take the statistics of each")
    if weights is not None and (len(weights) != len(summaries) or not all(0 < w < np.inf for w in weights)):
        raise UsageError("E001", f"{len(summaries)} datasets need as many weights, all above 0")
    features: dict[str, Described] = {}
    for name in summaries[0].features:
        parts = [summary.exact(name) for summary in summaries]
        features[name] = Mixture(tuple(parts), tuple(weights)) if weights is not None else _merged(parts)
    return Summary(
        features=features,
        episodes=sum(summary.episodes for summary in summaries),
        steps=sum(summary.steps for summary in summaries),
        left_out=tuple(left for summary in summaries for left in summary.left_out),
        too_wide=tuple(sorted({name for summary in summaries for name in summary.too_wide})),
    )


def _merged(parts: Sequence[VectorStats]) -> VectorStats:
    out = parts[0]
    for part in parts[1:]:
        out = out.merge(part)
    return out


def to_text(document: Mapping[str, Json], indent: int | None) -> str:
    """A file's content, as the trainer formats it."""
    return json.dumps(document, indent=indent, ensure_ascii=False, allow_nan=False)
