"""What makes the parts of a job: processes on this machine, or somebody else's machinery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from vla_data.jobs.job import Job
from vla_data.jobs.part import Part
from vla_data.jobs.pool import Limits, make_parts


class Engine(Protocol):
    """What makes the parts of a job, wherever; the bytes are the same."""

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        """Make all parts; yields each when it has its receipt in the job's work folder, in any order."""
        ...


@runtime_checkable
class Finishes(Protocol):
    """What an `Engine` has besides that leaves something outside of the job's work folder."""

    def finish(self, job: Job, digest: str, parts: Sequence[Part]) -> None:
        """Remove it; called once the dataset is published."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes on this machine.

    Attributes:
        workers: how many.
    """

    workers: int

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        """See `Engine`."""
        return make_parts(job, digest, parts, workers=min(self.workers, len(parts)), limits=limits)
