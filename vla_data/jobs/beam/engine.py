"""Parts on Apache Beam: the same parts as locally, made by whatever runner the options name.

Elements are part numbers; the plan is a file in a `vla_data.jobs.beam.part_store.Depot` that all workers reach,
and what a part gives is its blob and receipt there. So a bundle may be retried, run twice or be lost, and nothing
changes; what is missing in the end is run again. The pipeline is one chain of ``Create``, ``Reshuffle`` and
``Map``, which every runner gets right.

Each part is made in a process of its own with the limits of local workers, so that a file that kills its reader
costs one episode and not the runner's worker.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from vla_data.errors import MachineError, UsageError
from vla_data.jobs.beam.part_store import (
    STOPPED,
    Depot,
    depot_of,
    is_confirmed,
    make_number,
    raise_trouble,
    write_plan,
)
from vla_data.jobs.beam.process import call_apart
from vla_data.jobs.job import Job
from vla_data.jobs.part import Part
from vla_data.jobs.pool import Limits
from vla_data.safety.text import show

# On import Beam warns on the root logger of a Google client that is not installed, which concerns nobody here.
_disabled: Final = logging.root.manager.disable
logging.disable(logging.WARNING)
try:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import (
        DirectOptions,
        PipelineOptions,
        PortableOptions,
        StandardOptions,
    )
finally:
    logging.disable(_disabled)

LOCAL_RUNNER: Final = "FnApiRunner"
"""Beam's default runner first looks for another one on the network."""
_DEFAULTS: Final = ("--default_sdk_harness_log_level=ERROR",)
"""What can be said otherwise; Beam's worker processes tell 20 lines each of themselves."""
_REACH_SECONDS: Final = 20.0
_IDLE: Final = 2
"""Pipelines in a row that may end without a single part; a worker's death ends some runners' pipelines."""


class MakeParts(beam.PTransform[Any, Any]):
    """Makes the parts of a plan, for pipelines of one's own: numbers in, the same numbers out.

    Args:
        job: whose parts these are.
        digest: of the job.
        depot: where `write_plan` has written the job's plan, which every worker must reach.
        token: of this run; a worker that made a part leaves it in the depot.
        limits: of the process that makes one part.
    """

    def __init__(self, job: Job, digest: str, depot: Depot, token: str, limits: Limits | None = None) -> None:
        super().__init__()
        self._make = functools.partial(make_number, job.pack(), digest, limits or Limits(), depot, token)

    def expand(self, numbers: Any) -> Any:
        """A collection of numbers, each once its part has a receipt."""
        return numbers | "Spread" >> beam.Reshuffle() | "Make" >> beam.Map(self._make)


@dataclass(frozen=True)
class BeamEngine:
    """Runs the parts of a job on Beam.

    Attributes:
        options: Beam's own, as on a command line; without ``--runner``, FnApiRunner.
        work: a URL or folder that all workers reach, for the plan and the parts; None: the work folder beside the
            target.
    """

    options: tuple[str, ...] = ()
    work: str | None = None

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        """Make all parts; yields each once it is done.

        Raises:
            UsageError: E001 for options that Beam does not take.
            MachineError: E703 when the runner makes no more of the parts; the next run goes on with them.
        """
        job = job.absolute()
        depot = depot_of(job, digest, parts, self.work)
        write_plan(depot, parts)
        token = uuid.uuid4().hex
        todo = list(parts)
        idle = 0
        while todo:
            trouble = self._run(job, digest, depot, token, [part.number for part in todo], limits)
            left = []
            with ThreadPoolExecutor(depot.threads) as pool:
                found = pool.map(lambda part: _collect(depot, token, job, digest, part), todo)
                for part, is_here in zip(todo, found, strict=True):
                    if is_here:
                        yield part
                    else:
                        left.append(part)
            raise_trouble(depot, token, left)
            idle = idle + 1 if len(left) == len(todo) else 0
            if idle == _IDLE:  # the runner itself is at fault
                reason = f": {type(trouble).__name__}: {show(_last_line(trouble))}" if trouble is not None else ""
                raise MachineError("E703", f"Beam did not finish {len(left):,} of the parts{reason}; run it again")
            todo = left

    def finish(self, job: Job, digest: str, parts: Sequence[Part]) -> None:
        """Remove what is in the depot."""
        depot_of(job, digest, parts, self.work).clear()

    def _run(
        self, job: Job, digest: str, depot: Depot, token: str, numbers: Sequence[int], limits: Limits
    ) -> BaseException | None:
        """Run the pipeline once; returns what it died of, for there may be progress all the same."""
        made = MakeParts(job, digest, depot, token, limits)
        return run_beam(self.options, functools.partial(_parts, made, list(numbers)))


def read_options(words: Sequence[str]) -> PipelineOptions:
    """Beam's options; the runner is FnApiRunner where none is named.

    Raises:
        UsageError: E001 for options that Beam does not take.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # argparse prints its usage
            options = PipelineOptions([*_DEFAULTS, *words])
            standard, direct = options.view_as(StandardOptions), options.view_as(DirectOptions)
    except (ValueError, SystemExit) as error:
        why = _last_line(said.getvalue()) or str(error)
        raise UsageError("E001", f"Beam does not take these options: {show(why)}") from None
    for word in words:
        if not word.startswith("-"):
            raise UsageError("E001", f"{show(word)} is not an option of Beam; each begins with --")
    if direct.direct_num_workers < 0:
        raise UsageError("E001", f"--direct_num_workers={direct.direct_num_workers} is below 0")
    if standard.runner is None:
        standard.runner = LOCAL_RUNNER
    return options


def open_pipeline(words: Sequence[str]) -> Any:
    """An empty pipeline.

    Raises:
        UsageError: E001 for options that Beam does not take.
        MachineError: E703 when no job service answers.
    """
    options = read_options(words)
    try:
        pipeline = beam.Pipeline(options=options)
    except (ValueError, SystemExit) as error:
        raise UsageError("E001", f"Beam does not take these options: {show(str(error), escaped=True)}") from None
    if "portable" in str(options.view_as(StandardOptions).runner).lower():
        _reach(options.view_as(PortableOptions).job_endpoint)
    else:  # a job service may know options that Beam here does not
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            known = options.get_all_options()
            given = options.get_all_options(drop_default=True, retain_unknown_options=True)
        finally:
            logging.disable(disabled)
        for name in sorted(given.keys() - known.keys()):
            raise UsageError("E001", f"Beam has no option --{show(name)}")
    return pipeline


def _reach(endpoint: str | None) -> None:
    """Beam waits for its job service for ever."""
    host, colon, port = str(endpoint).rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_SECONDS).close()
        except OSError as error:
            reason = error.strerror or str(error)
            raise MachineError("E703", f"no job service answers at {show(endpoint)}: {show(reason)}") from None


def run_beam(words: Sequence[str], fill: Callable[[Any], None]) -> BaseException | None:
    """Run one pipeline; what it died of, or None.

    Args:
        words: Beam's options.
        fill: puts the transforms into the pipeline that it gets; picklable.

    Raises:
        UsageError: E001 for options that Beam does not take.
    """
    open_pipeline(words)
    run = functools.partial(_run_pipeline, words, fill)
    error: BaseException | None = None
    STOPPED.clear()
    if read_options(words).view_as(DirectOptions).direct_running_mode == "multi_processing":
        error = call_apart(run)
    else:
        try:
            run()
        except Exception as found:  # runners fail in their own ways
            error = found
    if STOPPED:  # Beam takes an interrupt for a fault of what it runs
        raise STOPPED[0]
    if isinstance(error, UsageError):
        raise error
    return error


def _run_pipeline(words: Sequence[str], fill: Callable[[Any], None]) -> None:
    pipeline = open_pipeline(words)
    fill(pipeline)
    pipeline.run().wait_until_finish()


def _parts(made: MakeParts, numbers: list[int], pipeline: Any) -> None:
    _ = pipeline | "Parts" >> beam.Create(numbers) | "MakeParts" >> made


def _collect(depot: Depot, token: str, job: Job, digest: str, part: Part) -> bool:
    return is_confirmed(depot, token, part) and depot.collect(job, digest, part)


def _last_line(error: BaseException | str) -> str:
    return (str(error).splitlines() or [""])[-1]
