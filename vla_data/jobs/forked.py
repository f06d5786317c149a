"""Worker processes that are forked by a server of our own, or spawned where that can't be.

The server is started by the first worker, or forked of a program of ours when it begins. It is shared by all runs
of a process, and ends with it; see `vla_data.jobs.fork_server`. A worker gets this process's environment, current
folder, path and standard output as they are when it is started. What a process is given by its parent alone, such
as limits, and what is read from the environment when libraries are loaded, is the server's: when it has changed
here, a new server is started.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import multiprocessing.context
import multiprocessing.popen_fork
import multiprocessing.resource_tracker
import multiprocessing.spawn
import multiprocessing.util
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from vla_data.jobs import fork_server, process
from vla_data.jobs.fork_client import NoServerError, Server, answer, is_told, key_of_now, uninterrupted
from vla_data.jobs.process import without_main
from vla_data.jobs.safe_path import safe_path

_SYSTEMS: Final = ("linux",)
"""Where a process may fork that has loaded libraries: those of macOS have threads that nobody asked for."""
_LOADED: Final = ("vla_data.jobs.pool", "vla_data.files.tables", "PIL.Image", "numpy.ma", "simplejpeg")
"""What a worker imports beside what its job consists of."""
_OURS: Final = ("converters.", "vla_data.actions", "vla_data.core", "vla_data.media", "vla_data.steps")
"""Modules that the server loads if this process has: they load nothing that starts a thread."""
_OTHERS: Final = ("av", "h5py", "deflate", "google_crc32c", "pyarrow.parquet")
_ROOT: Final = Path(__file__).parents[2]


class Process(process.Process):
    """A worker that loads the library only where it must."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name that multiprocessing looks for
        if sys.platform in _SYSTEMS:
            with contextlib.suppress(NoServerError):
                return _Popen(process_obj)
        # The resource tracker unblocks the signal when it is started, which the first process would do.
        with safe_path():
            multiprocessing.resource_tracker.ensure_running()
        with uninterrupted():
            return process.Process._Popen(process_obj)


class _Descriptor:
    """What a `multiprocessing.connection.Connection` is sent as."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """The descriptor, in the process that it was sent to."""
        return fork_server.descriptors[self._number]


class _Popen(multiprocessing.popen_fork.Popen):
    method = "spawn"
    DupFd = _Descriptor
    returncode: int | None

    def __init__(self, process_obj: Any) -> None:
        self._descriptors: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Have a descriptor sent; what its `_Descriptor` is made with."""
        self._descriptors.append(fd)
        return len(self._descriptors) - 1

    def _launch(self, process_obj: Any) -> None:
        spawning: Any = multiprocessing.context
        stream = io.BytesIO()
        with without_main():
            facts = multiprocessing.spawn.get_preparation_data(process_obj._name)
            spawning.set_spawning_popen(self)
            try:
                spawning.reduction.dump(facts, stream)
                spawning.reduction.dump(process_obj, stream)
            finally:
                spawning.set_spawning_popen(None)
        self.pid, self.sentinel = _fork(stream.getvalue(), self._descriptors)
        self.finalizer = multiprocessing.util.Finalize(self, os.close, (self.sentinel,))

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code; None as long as it runs and ``flag`` says not to wait."""
        if self.returncode is None and is_told(self.sentinel, 0 if flag == os.WNOHANG else None):
            code = answer(self.sentinel)
            self.returncode = -signal.SIGKILL if code is None else code  # as its server's death kills it
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.poll() is None:  # else the number may be of another process by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


_lock = threading.Lock()
_server: Server | None = None
_left: list[Server] = []
"""Those that nothing more is wanted of, until they have ended and the system was told that this is known."""


def _forget() -> None:
    """In a process that is forked of this one: the server is the other's, and so may be the lock."""
    global _lock, _server
    _lock = threading.Lock()
    if _server is not None:
        _server.close()
    _server = None
    _left.clear()


os.register_at_fork(after_in_child=_forget)


@atexit.register
def _leave() -> None:
    if _server is not None:
        _drop(_server)


def fork_early(modules: Iterable[str]) -> None:
    """Load ``modules``, and have the server forked of this process, which saves loading them twice.

    For a program of ours, at its start: later it may have open files, or code of its user. Where it has other
    threads, or workers can't be forked, they are loaded and no more.
    """
    global _server
    with fork_server.quietly():
        fork_server.load((*_LOADED, *modules))
    if sys.platform in _SYSTEMS and fork_server.is_alone():
        with _lock, contextlib.suppress(NoServerError):
            _server = _server or Server(key_of_now(), here=True)


def _fork(sent: bytes, descriptors: Sequence[int]) -> tuple[int, int]:
    standard = [number for number in (1, 2) if _is_open(number)]
    facts = {"modules": _wanted(), "environment": dict(os.environ), "standard": standard}
    body = (json.dumps(facts).encode(), sent)
    for _ in range(2):  # the first may be dead
        server = _current()
        if server.refuses:
            break
        try:
            return server.ask(body, (*standard, *descriptors))
        except NoServerError:
            if not server.refuses:
                _drop(server)
    raise NoServerError("no server forks workers here")


def _current() -> Server:
    global _server
    with _lock:
        key = key_of_now()
        if _server is not None and _server.key != key:
            _leave_alone(_server)
            _server = None
        _server = _server or Server(key)
        return _server


def _drop(server: Server) -> None:
    global _server
    with _lock:
        if _server is server:
            _server = None
        _leave_alone(server)


def _leave_alone(server: Server) -> None:
    """Want nothing more of one; those that have ended since are forgotten."""
    server.close()
    _left[:] = [one for one in (*_left, server) if not one.is_over()]


def _wanted() -> list[str]:
    """Modules that workers are going to use, as far as this process knows."""
    here = [name for name, module in [*sys.modules.items()] if _is_ours(name, module)]
    return [*_LOADED, *sorted(here), *(name for name in _OTHERS if name in sys.modules)]


def _is_ours(name: str, module: object) -> bool:
    file = str(vars(module).get("__file__")) if name.startswith(_OURS) and module is not None else ""
    return bool(file) and Path(file).is_relative_to(_ROOT)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True
