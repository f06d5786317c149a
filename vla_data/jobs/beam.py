"""Parts on Apache Beam: the same parts as locally, made by whatever runner the options name.

Elements are part numbers; the plan is a file beside the parts, and what a part gives is its blob and receipt in
the work folder, which all workers must reach. So a bundle may be retried, run twice or be lost, and nothing
changes; what is missing in the end is run again. The pipeline is one chain of ``Create``, ``Reshuffle`` and
``Map``, which every runner gets right.

Each part is made in a process of its own with the limits of local workers, so that a file that kills its reader
costs one episode and not the runner's worker.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from vla_data.core import EpisodeRef
from vla_data.errors import CODES, MachineError, UsageError, VlaDataError
from vla_data.jobs.io import write_file
from vla_data.jobs.part import Job, Part, forget, is_made, read_part
from vla_data.jobs.pool import Limits, make_parts
from vla_data.safety.text import show

LOCAL_RUNNER: Final = "FnApiRunner"
"""Beam's default runner first looks for another one on the network."""

_PLAN: Final = "plan.jsonl"
_INDEX: Final = "plan.index"
_WORD: Final = 8


class MakeParts(beam.PTransform[Any, Any]):
    """Makes the parts of a plan, for pipelines of one's own: numbers in, the same numbers out.

    Args:
        job: whose parts these are; `write_plan` has written its plan into ``job.work``, which every worker must
            reach.
        digest: of the job.
        limits: of the process that makes one part.
    """

    def __init__(self, job: Job, digest: str, limits: Limits | None = None) -> None:
        super().__init__()
        self._make = functools.partial(make_number, job, digest, limits or Limits())

    def expand(self, numbers: Any) -> Any:
        """A collection of numbers, each once its part has a receipt."""
        return numbers | "Spread" >> beam.Reshuffle() | "Make" >> beam.Map(self._make)


@dataclass(frozen=True)
class BeamEngine:
    """Runs the parts of a job on Beam.

    Attributes:
        options: Beam's own, as on a command line; without ``--runner``, FnApiRunner.
    """

    options: tuple[str, ...] = ()

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        """Make all parts; yields each once it is done.

        Raises:
            UsageError: E001 for options that Beam does not take.
                MachineError: E703 when the runner makes no more of the parts; the next run goes on with them.
        """
        write_plan(job.work, parts)
        done = [part for part in parts if is_made(job, digest, part)]
        yield from done
        gone = {part.number for part in done}
        todo = [part for part in parts if part.number not in gone]
        for part in todo:
            forget(job, part)
        trouble: BaseException | None = None
        while todo:
            trouble = self._run(job, digest, [part.number for part in todo], limits)
            _raise_recorded(job.work, todo)
            left = [part for part in todo if read_part(job, digest, part) is None]
            gone = {part.number for part in left}
            yield from (part for part in todo if part.number not in gone)
            if len(left) == len(todo):  # no progress: the runner itself is at fault
                reason = f": {type(trouble).__name__}: {show(_last_line(trouble))}" if trouble is not None else ""
                raise MachineError("E703", f"{len(left):,} parts were not made by Beam{reason}")
            todo = left

    def _run(self, job: Job, digest: str, numbers: Sequence[int], limits: Limits) -> BaseException | None:
        """Run the pipeline once; returns what it died of, for there may be progress all the same."""
        try:
            options = PipelineOptions(list(self.options))
            if options.view_as(StandardOptions).runner is None:
                options.view_as(StandardOptions).runner = LOCAL_RUNNER
            pipeline = beam.Pipeline(options=options)
        except (ValueError, SystemExit) as error:
            raise UsageError("E001", f"Beam does not take these options: {show(str(error))}") from None
        _ = pipeline | "Parts" >> beam.Create(list(numbers)) | "MakeParts" >> MakeParts(job, digest, limits)
        try:
            pipeline.run().wait_until_finish()
        except KeyboardInterrupt:
            raise
        except Exception as error:  # runners fail in their own ways
            return error
        return None


def make_number(job: Job, digest: str, limits: Limits, number: int) -> int:
    """Make one part of the plan in ``job.work``, unless it has its receipt; its number again.

    What goes wrong as a whole is left beside the part for the driver, since a runner would only retry it.
    """
    part = read_plan(job.work, number)
    try:
        for _ in make_parts(job, digest, [part], workers=1, limits=limits):
            pass
    except VlaDataError as error:
        facts = {"code": error.code, "message": error.message, "kind": type(error).__name__}
        write_file(_trouble(job.work, number), json.dumps(facts).encode(), sync=False)
    return number


def write_plan(work: Path, parts: Sequence[Part]) -> None:
    """Write all parts into one file, and where each begins into another; neither is read as a whole."""
    lines = [
        json.dumps([part.number, [[ref.id, ref.size, ref.where] for ref in part.refs]]).encode() + b"\n"
        for part in parts
    ]
    ends = [0]
    for line in lines:
        ends.append(ends[-1] + len(line))
    write_file(work / _PLAN, lines, sync=False)
    write_file(work / _INDEX, b"".join(end.to_bytes(_WORD, "little") for end in ends), sync=False)


def read_plan(work: Path, number: int) -> Part:
    """One part of a plan."""
    with (work / _INDEX).open("rb") as index:
        index.seek(number * _WORD)
        start, end = (int.from_bytes(index.read(_WORD), "little") for _ in range(2))
    with (work / _PLAN).open("rb") as plan:
        plan.seek(start)
        found, refs = json.loads(plan.read(end - start))
    if found != number:
        raise AssertionError(f"part {number} of the plan is part {found}")
    return Part(number, tuple(EpisodeRef(name, size, where) for name, size, where in refs))


def _last_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[-1]


def _raise_recorded(work: Path, parts: Sequence[Part]) -> None:
    for part in parts:
        file = _trouble(work, part.number)
        if file.is_file():
            facts = json.loads(file.read_bytes())
            file.unlink()
            kind = next(c for c in _kinds(VlaDataError) if c.__name__ == facts["kind"])
            raise kind(facts["code"] if facts["code"] in CODES else "E703", facts["message"])


def _kinds(kind: type[VlaDataError]) -> Iterator[type[VlaDataError]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from _kinds(sub)


def _trouble(work: Path, number: int) -> Path:
    return work / f"{number:08d}.error"
