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
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from vla_data.jobs import fork_server, process
from vla_data.jobs.process import without_main
from vla_data.jobs.safe_path import is_current, safe_path

_SYSTEMS: Final = ("linux",)
"""Where a process may fork that has loaded libraries: those of macOS have threads that nobody asked for."""
_ANSWER_SECONDS: Final = 60.0
_LOADED: Final = ("vla_data.jobs.pool", "vla_data.files.tables", "PIL.Image", "numpy.ma", "simplejpeg")
"""What a worker imports beside what its job consists of."""
_OURS: Final = ("converters.", "vla_data.actions", "vla_data.core", "vla_data.media", "vla_data.steps")
"""Modules that the server loads if this process has: they load nothing that starts a thread."""
_OTHERS: Final = ("av", "h5py", "deflate", "google_crc32c", "pyarrow.parquet")
_ROOT: Final = Path(__file__).parents[2]
_AT_START: Final = ("ARROW_", "GLIBC_", "JE_", "LD_", "MALLOC_", "OMP_", "OPENBLAS_", "PYTHON")
_LIMITS: Final = tuple(value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_"))


class NoServerError(Exception):
    """Nothing forks workers here; they have to be spawned."""


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
        with _uninterrupted():
            return process.Process._Popen(process_obj)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A Ctrl-C goes to the whole group; a process that is still importing would show a traceback."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, fork_server.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


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
        if self.returncode is None and _is_told(self.sentinel, 0 if flag == os.WNOHANG else None):
            code = _answer(self.sentinel)
            self.returncode = -signal.SIGKILL if code is None else code  # as its server's death kills it
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.poll() is None:  # else the number may be of another process by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)


class _Server:
    """One server, and what it was started with.

    Args:
        key: of `_key`.
        here: whether to fork this process, and not to start another from nothing.
    """

    def __init__(self, key: object, *, here: bool = False) -> None:
        self.key = key
        self.refuses = False
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._pid: int
        try:
            with theirs, _uninterrupted():
                self._pid = self._fork(theirs) if here else self._start(theirs)
        except OSError as error:
            self._socket.close()
            raise NoServerError(str(error)) from error

    def _start(self, theirs: socket.socket) -> int:
        path = [entry for entry in sys.path if not is_current(entry)]
        code = (
            f"import sys; sys.path[:] = {path!r}; from vla_data.jobs.fork_server import main; "
            f"main({theirs.fileno()}, {os.getpid()}, tied={_is_tied()})"
        )
        util: Any = multiprocessing.util
        program = os.fsencode(multiprocessing.spawn.get_executable())
        with safe_path():
            words = [program, *util._args_from_interpreter_flags(), "-c", code]
        pid: int = util.spawnv_passfds(program, words, [theirs.fileno()])
        return pid

    def _fork(self, theirs: socket.socket) -> int:
        parent, tied = os.getpid(), _is_tied()
        util: Any = multiprocessing.util
        util._flush_std_streams()
        pid = os.fork()
        if pid == 0:
            try:
                self._socket.close()
                fork_server.main(theirs.detach(), parent, tied=tied)
            finally:
                os._exit(0)
        return pid

    def ask(self, body: Sequence[bytes], passed: Sequence[int]) -> tuple[int, int]:
        """The number of a new process, and the pipe that has its exit code once it ended.

        Raises:
            NoServerError: there is none.
        """
        told, answers = os.pipe()
        try:
            try:
                with self._asking:
                    header = fork_server.HEADER.pack(*map(len, body))
                    socket.send_fds(self._socket, [header], [answers, *passed])
                    for piece in body:
                        self._socket.sendall(piece)
            finally:
                os.close(answers)
            pid = _answer(told) if _is_told(told, _ANSWER_SECONDS) else None
        except OSError as error:
            os.close(told)
            raise NoServerError(str(error)) from error
        if pid:
            return pid, told
        os.close(told)
        self.refuses = pid == 0
        raise NoServerError("it has threads" if self.refuses else "it is gone")

    def close(self) -> None:
        """Want no more of it. It ends with its last worker."""
        self._socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, os.WNOHANG)


_lock = threading.Lock()
_server: _Server | None = None


def _forget() -> None:
    """In a process that is forked of this one: the server is the other's, and so may be the lock."""
    global _lock, _server
    _lock = threading.Lock()
    if _server is not None:
        _server._socket.close()
    _server = None


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
            _server = _server or _Server(_key(), here=True)


def _is_tied() -> bool:
    """Whether this thread ends when its process does."""
    return threading.current_thread() is threading.main_thread()


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


def _current() -> _Server:
    global _server
    with _lock:
        key = _key()
        if _server is not None and _server.key != key:
            _server.close()
            _server = None
        _server = _server or _Server(key)
        return _server


def _drop(server: _Server) -> None:
    global _server
    with _lock:
        if _server is server:
            _server = None
        server.close()


def _key() -> object:
    """What a process has from its parent and can't be told later."""
    return (
        *(os.getpid(), os.getpgid(0), os.getsid(0), os.getresuid(), os.getresgid(), sorted(os.getgroups())),
        *(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)),
        [resource.getrlimit(limit) for limit in _LIMITS],
        multiprocessing.spawn.get_executable(),
        sorted(item for item in os.environ.items() if item[0].startswith(_AT_START)),
    )


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


def _is_told(descriptor: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))


def _answer(descriptor: int) -> int | None:
    """The next number from a server; None when it is gone."""
    data = os.read(descriptor, fork_server.ANSWER.size)
    return fork_server.ANSWER.unpack(data)[0] if data else None
