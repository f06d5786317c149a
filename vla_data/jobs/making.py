"""The parts of a job, made by an engine while somebody is told how far it is."""

from __future__ import annotations

from collections.abc import Sequence

from vla_data.errors import MachineError
from vla_data.files.write import machine_errors, make_folder
from vla_data.jobs.engine import Engine
from vla_data.jobs.job import Job
from vla_data.jobs.part import Made, Part, read_part, receipt_file
from vla_data.jobs.pool import Limits
from vla_data.jobs.progress import Advance, Told, Watches


def make(
    job: Job, parts: Sequence[Part], total: int, engine: Engine, limits: Limits, progress: Told | None
) -> dict[int, list[Made]]:
    """Number of each part -> what its episodes became.

    Args:
        job: what is made.
        parts: of it.
        total: episodes of all parts.
        engine: what makes them.
        limits: of a worker.
        progress: who is told; None for nobody.

    Raises:
        MachineError: the disk refuses, or a part is gone.
    """
    digest = job.digest()
    with machine_errors("cannot write beside the target"):
        make_folder(job.work)
        done = frames = bad = 0
        made: dict[int, list[Made]] = {}
        for part in engine.make(job, digest, parts, limits=limits):
            # Read while workers make the next ones, and once.
            records = [item.record for item in made.setdefault(part.number, _read(job, digest, part))]
            done += len(part.refs)
            if isinstance(progress, Watches):
                frames += sum(record.length or 0 for record in records)
                bad += sum(record.status == "failed" for record in records)
                progress.advance(Advance(episodes=done, total=total, frames=frames, bad=bad))
            elif progress is not None:
                progress(done, total)
        for part in parts:
            if part.number not in made or not receipt_file(job, part).exists():
                raise _gone()
    return made


def _read(job: Job, digest: str, part: Part) -> list[Made]:
    items = read_part(job, digest, part)
    if items is None:
        raise _gone()
    return items


def _gone() -> MachineError:
    return MachineError(
        "E703", "a finished part is gone, because the work folder was moved or emptied; run it again"
    )
