"""A pipeline in a process of its own, for a runner that waits forever for a worker process that is dead.

Beam's local runner with ``multi_processing`` starts its workers from threads. When a worker dies its thread
raises, and nobody hears it; here that ends the process, with all that it started, and the caller goes on.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from vla_data.errors import MachineError, VlaDataError
from vla_data.jobs.process import Process, end_with_parent

_WORKER_THREAD: Final = "run_worker"
"""What Beam calls the thread that waits for a worker process."""
_LEAVE_SECONDS: Final = 10.0


def call_apart(function: Callable[[], None]) -> BaseException | None:
    """Call a picklable function in a process of its own; what it raised, or an error for a death in it."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = Process(target=_serve, args=(theirs, os.getpid(), function))
    process.start()
    theirs.close()
    try:
        try:
            error: BaseException | None = ours.recv()
        except EOFError:
            error = MachineError("E703", "a worker of Beam died")
        if error is None:
            process.join(_LEAVE_SECONDS)
        return error
    finally:
        _end(process)
        ours.close()


def _end(process: Process) -> None:
    """Kill what is left of the process's session, in which are all that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if process.pid is not None:
            os.killpg(process.pid, signal.SIGKILL)
    process.join()


def _serve(pipe: multiprocessing.connection.Connection, parent: int, function: Callable[[], None]) -> None:
    os.environ["PYTHONSAFEPATH"] = "1"  # Beam starts its workers as `python -m`, which would import from here
    os.setsid()  # also leaves the terminal, whose Ctrl-C is the parent's affair
    end_with_parent(parent)

    def died(what: threading.ExceptHookArgs) -> None:
        if what.thread is not None and what.thread.name == _WORKER_THREAD:
            pipe.close()
            os.killpg(0, signal.SIGKILL)

    threading.excepthook = died
    error: BaseException | None = None
    try:
        function()
    except VlaDataError as found:
        error = found
    except Exception as found:  # what can be sent is its text
        error = RuntimeError(f"{type(found).__name__}: {found}")
    sys.stderr.flush()
    pipe.send(error)
    pipe.close()
