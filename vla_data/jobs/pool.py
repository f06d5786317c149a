"""Worker processes with limits of time and memory, in which a death costs one episode.

A part whose worker dies, hangs or runs out of memory is tried again episode by episode, each alone; an
episode that fails again is quarantined, and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import multiprocessing
import multiprocessing.context
import os
import resource
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Any, Final

from pebble import ProcessExpired, ProcessPool

from vla_data.core import Encoded, EpisodeRef
from vla_data.errors import DataError
from vla_data.jobs.part import Job, Part, failed, fingerprint, make_episode, make_part, write_part
from vla_data.ledger import Record

# From <sys/prctl.h> and glibc's <malloc.h>.
_PR_SET_PDEATHSIG: Final = 1
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_START_LOCK: Final = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one worker may use.

    Attributes:
        memory: address space in bytes.
        seconds: time for one episode.
    """

    memory: int = 4 << 30
    seconds: float = 60.0


class _Process(multiprocessing.context.SpawnProcess):
    """A spawned process that does not run the user's main module again.

    ``multiprocessing`` re-imports ``__main__`` in each child, which starts the user's script anew unless it has
    the ``if __name__ == "__main__"`` guard. Workers here need nothing from it.
    """

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name that multiprocessing looks for
        with _START_LOCK:
            main = sys.modules["__main__"]
            sys.modules["__main__"] = types.ModuleType("__main__")
            try:
                return multiprocessing.context.SpawnProcess._Popen(process_obj)
            finally:
                sys.modules["__main__"] = main


class _Context(multiprocessing.context.SpawnContext):
    Process = _Process


_job: Job | None = None
_digest = ""


def _start(job: Job, digest: str, limits: Limits) -> None:
    """Set up a worker: limits, and signals left to the parent."""
    global _job, _digest
    _job, _digest = job, digest
    os.umask(0o077)
    if sys.platform == "linux":
        # Die with the parent, also when that is killed.
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # glibc would map and unmap a rollout's 70 MB anew each time; page faults cost a third of the job then.
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_MAX, 0)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # the parent's own limit may be lower
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))


def _work(part: Part) -> int:
    assert _job is not None
    make_part(_job, _digest, part)
    return part.number


def make_parts(job: Job, digest: str, parts: Sequence[Part], *, workers: int, limits: Limits) -> Iterator[Part]:
    """Make all parts; yields each when it is done, in any order."""
    crashed: list[Part] = []
    todo = iter(parts)
    with _pool(job, digest, workers, limits) as pool:
        waiting: dict[Any, Part] = {}
        while True:
            # A few parts ahead keep every worker busy; a million futures would only take memory.
            for part in itertools.islice(todo, 2 * workers - len(waiting)):
                future = pool.schedule(_work, args=(part,), timeout=limits.seconds * len(part.refs))
                waiting[future] = part
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                part = waiting.pop(future)
                try:
                    future.result()
                except (ProcessExpired, FutureTimeout):
                    crashed.append(part)
                else:
                    yield part
    for part in crashed:
        _rescue(job, digest, part, limits)
        yield part


@contextlib.contextmanager
def _pool(job: Job, digest: str, workers: int, limits: Limits) -> Iterator[Any]:
    pool: Any = ProcessPool(
        max_workers=workers, context=_Context(), initializer=_start, initargs=(job, digest, limits)
    )
    try:
        yield pool
        pool.close()
    except BaseException:
        pool.stop()
        raise
    finally:
        pool.join()


def _rescue(job: Job, digest: str, part: Part, limits: Limits) -> None:
    """Make a part whose worker died: each episode in a worker of its own."""
    results: list[Any] = []
    for ref in part.refs:
        with _pool(job, digest, 1, limits) as pool:
            try:
                results.append(pool.schedule(_alone, args=(ref,), timeout=limits.seconds).result())
            except FutureTimeout:
                results.append(_lost(job, ref, DataError("E503", f"not done after {limits.seconds:g} s")))
            except ProcessExpired as death:
                results.append(_lost(job, ref, _cause(death)))
    write_part(job, digest, part, results)


def _lost(job: Job, ref: EpisodeRef, error: DataError) -> tuple[Record, None, None]:
    error.source_sha256 = fingerprint(job.source, ref)
    return failed(ref, error), None, None


def _alone(ref: EpisodeRef) -> Any:
    assert _job is not None
    record, encoded, schema = make_episode(_job, ref)
    if encoded is not None:  # views can't be sent to another process
        encoded = Encoded([bytes(piece) for piece in encoded.blob], encoded.summary, encoded.content)
    return record, encoded, schema


def _cause(death: Any) -> DataError:
    number = -death.exitcode if (death.exitcode or 0) < 0 else 0
    if number == signal.SIGKILL:
        return DataError("E501", "the worker was killed (signal 9, likely memory)")
    name = signal.Signals(number).name if number else f"exit code {death.exitcode}"
    return DataError("E502", f"the worker crashed ({name})")
