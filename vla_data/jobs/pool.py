"""Worker processes with limits of time and memory, in which a death costs one episode.

Each worker has a pipe of its own and one part at a time; the parent is a single thread that waits for all pipes.
So a worker may die, hang or be stopped at any instant without holding up another. A part whose worker dies,
hangs or runs out of memory is tried again episode by episode, each alone; an episode that fails again and
again is quarantined, and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import pickle
import resource
import signal
import time
import traceback
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vla_data.core import Encoded, EpisodeRef, Schema
from vla_data.core.ledger import Record
from vla_data.errors import DataError, MachineError, UsageError
from vla_data.files.write import make_folder, remove_tree
from vla_data.jobs.forked import Process
from vla_data.jobs.job import Job
from vla_data.jobs.memory import keep
from vla_data.jobs.packed import Packed
from vla_data.jobs.part import Part, failed, fingerprint, make_part, read_blob, read_part, write_part
from vla_data.jobs.process import end_with_parent

_TRIES: Final = 3
"""Of an episode alone: a machine short of memory may kill it once for no fault of its own."""
_STARTS: Final = 20
"""Workers that may die one after the other before they are ready for work."""
_START_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one worker may use.

    Attributes:
        memory: address space in bytes.
        seconds: time for one episode.
    """

    memory: int = 4 << 30
    seconds: float = 60.0


class _Worker:
    """One process, the pipe to it, and the part that it is making."""

    def __init__(self, job: Packed, digest: str, limits: Limits) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = Process(target=_serve, args=(theirs, os.getpid(), job, digest, limits), daemon=True)
        try:
            self.process.start()
        finally:
            theirs.close()
        self.part: Part | None = None
        self.deadline = time.monotonic() + _START_SECONDS

    def give(self, part: Part, seconds: float) -> None:
        self.part, self.deadline = part, time.monotonic() + seconds
        with contextlib.suppress(OSError):  # it is dead, which shows when its answer is read
            self.pipe.send(part)

    def answer(self) -> BaseException | None:
        """What it sent: None when all is well, the exception it met, or what it died of."""
        try:
            error: BaseException | None = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return _cause(self.process.exitcode or 0)
        if isinstance(error, MemoryError):
            return DataError("E504", "the episode needs more memory than a worker may use (Limits.memory)")
        return error

    def stop(self) -> None:
        self.process.kill()  # nothing else ends one that is stopped
        self.process.join()
        self.process.close()
        self.pipe.close()


def _serve(pipe: Any, parent: int, packed: Packed, digest: str, limits: Limits) -> None:
    """A worker's life: set limits, then make the parts that come through the pipe."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides
    os.umask(0o077)
    end_with_parent(parent)
    keep()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        job = packed.open(mine=True)  # before there is a limit: what it imports may reserve more than is used
    except UsageError as problem:
        with contextlib.suppress(OSError):
            pipe.send(problem)
        return
    with contextlib.suppress(ValueError, OSError):  # the parent's own limit may be lower
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    with contextlib.suppress(EOFError, OSError):  # the parent is gone
        pipe.send(None)
        while True:
            part = pipe.recv()
            error: BaseException | None = None
            try:
                make_part(job, digest, part)
            except MemoryError:
                error = MemoryError()  # without what holds the memory
            except Exception as problem:
                error = _portable(problem)
            pipe.send(error)


def _portable(error: Exception) -> Exception:
    """The exception as it can be sent, with the worker's traceback as a note."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def make_parts(job: Job, digest: str, parts: Sequence[Part], *, workers: int, limits: Limits) -> Iterator[Part]:
    """Make all parts; yields each when it is done, in any order."""
    crashed: list[Part] = []
    for part, error in _make(job, digest, parts, workers, limits):
        if error is not None:
            crashed.append(part)
        else:
            yield part
    for part in crashed:
        _rescue(job, digest, part, limits)
        yield part


def _make(
    job: Job, digest: str, parts: Iterable[Part], workers: int, limits: Limits
) -> Iterator[tuple[Part, DataError | None]]:
    """Make parts in up to so many workers; yields each with what its worker died of, or None.

    Any other exception in a worker is a defect, or the machine's failure, and is raised here.
    """
    todo = deque(parts)
    crew: list[_Worker] = []
    failures = 0
    packed = job.pack()
    try:
        while todo or any(worker.part for worker in crew):
            while len(crew) < workers and len(crew) < len(todo) + sum(w.part is not None for w in crew):
                crew.append(_Worker(packed, digest, limits))
            nearest = min(worker.deadline for worker in crew)
            heard = multiprocessing.connection.wait(
                [worker.pipe for worker in crew], timeout=max(0.0, nearest - time.monotonic())
            )
            for worker in list(crew):
                if worker.pipe in heard:
                    error = worker.answer()
                elif time.monotonic() >= worker.deadline:
                    # Its answer may have come while another's was handled.
                    late = not worker.pipe.poll()
                    error = DataError("E503", f"not done after {limits.seconds:g} s") if late else worker.answer()
                else:
                    continue
                part, worker.part, worker.deadline = worker.part, None, float("inf")
                if part is not None:
                    if error is not None and not isinstance(error, DataError):
                        raise error
                    yield part, error
                elif isinstance(error, UsageError):  # no other worker would do better
                    raise error
                elif error is not None:
                    failures += 1
                    if failures > _STARTS:
                        raise MachineError("E703", f"no worker process can start: {error}")
                else:
                    failures = 0
                if error is not None:
                    crew.remove(worker)
                    worker.stop()
                elif todo:
                    part = todo.popleft()
                    worker.give(part, limits.seconds * len(part.refs))
    finally:
        for worker in crew:
            worker.process.kill()
        for worker in crew:
            worker.stop()


def _rescue(job: Job, digest: str, part: Part, limits: Limits) -> None:
    """Make a part whose worker died, each episode alone; they wait in a folder of their own."""
    alone = replace(job, work=job.work / f"{part.number:08d}.{uuid.uuid4().hex}.alone")
    make_folder(alone.work)
    singles = [Part(number, (ref,)) for number, ref in enumerate(part.refs)]
    todo, lost = singles, dict[int, DataError]()
    for _ in range(_TRIES):
        lost = {one.number: error for one, error in _make(alone, digest, todo, 1, limits) if error is not None}
        todo = [one for one in todo if one.number in lost]
        if not todo:
            break
    results = [
        _lost(job, one.refs[0], lost[one.number]) if one.number in lost else _found(alone, digest, one)
        for one in singles
    ]
    write_part(job, digest, part, results)
    remove_tree(alone.work)


def _found(alone: Job, digest: str, one: Part) -> tuple[Record, Encoded | None, Schema | None]:
    made = read_part(alone, digest, one)
    if made is None:
        raise AssertionError("an episode was made alone and has no receipt")
    (item,) = made
    if item.summary is None:
        return item.record, None, None
    encoded = Encoded([read_blob(alone, one, item)], item.summary, str(item.record.content_sha256))
    return item.record, encoded, Schema.from_text(item.schema)


def _lost(job: Job, ref: EpisodeRef, error: DataError) -> tuple[Record, None, None]:
    error.source_sha256 = fingerprint(job.source, ref)
    return failed(ref, error), None, None


def _cause(code: int) -> DataError:
    if code == -signal.SIGKILL:
        return DataError("E501", "the worker was killed (signal 9, likely memory)")
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return DataError("E502", f"the worker crashed ({name})")
