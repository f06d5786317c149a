"""What a row of the tables of formats and trainers says, and what the modules behind it must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A storage format: where its code is. A module is imported when its code is used.

    Attributes:
        source: its source class, as ``module:Class``; None where it is only written.
        sink: its sink class; None where it is only read.
        sidecar: folder inside a dataset, relative, for the ledger and what else the format has no field for.
        audit: class that examines its datasets, an `vla_data.verification.audit.Audit`.
        masks: module with ``write_masks``, which writes names of episodes into a copy of a file.
        suffixes: endings of its files, in lower case, by which a folder's format is detected.
        extra: what to install for it, or None.
    """

    source: str | None = None
    sink: str | None = None
    sidecar: str | None = None
    audit: str | None = None
    masks: str | None = None
    suffixes: tuple[str, ...] = ()
    extra: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A trainer, or a library that trainers read with: what we know of it.

    Attributes:
        reads: the format that its gate opens.
        gate: module of a `Gate`.
        stats: class that writes its statistics file, as ``module:Class``; see `vla_data.statistics.trainers`.
        advantages: module of an `AdvantageFormat`.
        needs_labels: whether its advantages are labels of what is positive, and not only how much.
        copies: whether its advantages are a copy of the dataset instead of files beside it.
        judge: module of a `Judge`.
        mixture: module with ``parse(facts)``, which reads its configuration of a mixture.
        prepare: module of a `vla_data.preparing.job.Preparation`: what it needs beside its code.
        extra: what to install for its gate and its judge, or None.
    """

    reads: str | None = None
    gate: str | None = None
    stats: str | None = None
    advantages: str | None = None
    needs_labels: bool = False
    copies: bool = False
    judge: str | None = None
    mixture: str | None = None
    prepare: str | None = None
    extra: str | None = None


class Gate(Protocol):
    """A module that opens a dataset as a trainer's loader does."""

    def read_back(self, folder: Path) -> Mapping[str, Any]:
        """What that trainer would see; ``["lines"]`` is for a person.

        Raises:
            VerifyError: the loader could not open it, or would silently get something wrong.
        """
        ...


class Judge(Protocol):
    """A module that knows the usual mistakes in a trainer's data, whoever made it."""

    def judge(self, path: Path, *, source: Any = None) -> Any:
        """What was found; ``bugs`` are pairs of (file or empty, mistake)."""
        ...


class AdvantageFormat(Protocol):
    """A module that knows how a project stores advantages."""

    def read(self, table: Any, tag: str | None) -> Any:
        """What its files say, as `vla_data.advantages.format.Exchanged`."""
        ...

    def files(self, tag: str) -> Sequence[str]:
        """The files that it writes into a dataset, relative."""
        ...
