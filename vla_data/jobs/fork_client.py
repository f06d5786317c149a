"""The server that forks workers, as the process that it works for sees it: see `vla_data.jobs.fork_server`."""

from __future__ import annotations

import multiprocessing.spawn
import multiprocessing.util
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from vla_data.jobs import fork_server
from vla_data.jobs.safe_path import is_current, safe_path

_ANSWER_SECONDS: Final = 60.0
_AT_START: Final = (  # beginnings of variables that are read when a process or a library starts
    *("ARROW_", "GLIBC_", "JE_", "LANG", "LC_", "LD_", "MALLOC_", "OMP_", "OPENBLAS_", "PYTHON", "TZ"),
)
_LIMITS: Final = tuple(value for name, value in sorted(vars(resource).items()) if name.startswith("RLIMIT_"))


class NoServerError(Exception):
    """Nothing forks workers here; they have to be spawned."""


class Server:
    """One server, and what it was started with.

    Args:
        key: what it has from this process, see `key_of_now`.
        here: whether to fork this process, and not to start another from nothing.
    """

    def __init__(self, key: object, *, here: bool = False) -> None:
        self.key = key
        self.refuses = False
        self._asking = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_ANSWER_SECONDS)
        self.pid: int
        try:
            with theirs, uninterrupted():
                self.pid = self._fork(theirs) if here else self._start(theirs)
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
        pid = None
        try:
            with self._asking:
                self._send(body, [answers, *passed])
            os.close(answers)
            answers = -1
            pid = answer(told) if is_told(told, _ANSWER_SECONDS) else None
        except OSError as error:
            raise NoServerError(str(error)) from error
        finally:
            if answers >= 0:
                os.close(answers)
            if pid is None:  # gone, stopped, or this thread was interrupted and it waits for the rest
                self.kill()
            if not pid:
                os.close(told)
        if not pid:
            self.refuses = pid == 0
            raise NoServerError("it has threads" if self.refuses else "it is gone")
        return pid, told

    def _send(self, body: Sequence[bytes], passed: Sequence[int]) -> None:
        header = fork_server.HEADER.pack(*map(len, body))
        socket.send_fds(self._socket, [header], passed)
        for piece in body:
            self._socket.sendall(piece)

    def kill(self) -> None:
        """End it and its workers at once."""
        if not self.is_over():
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Want no more of it. It ends with its last worker, or with the process that still wants it."""
        self._socket.close()

    def is_over(self) -> bool:
        """Whether it has ended."""
        try:
            return os.waitpid(self.pid, os.WNOHANG)[0] != 0
        except ChildProcessError:  # somebody else has waited for it
            return True


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A Ctrl-C goes to the whole group; a process that is still importing would show a traceback."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, fork_server.SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _is_tied() -> bool:
    """Whether this thread ends when its process does."""
    return threading.current_thread() is threading.main_thread()


def key_of_now() -> object:
    """What a process has from its parent and can't be told later."""
    return (
        *(os.getpid(), os.getpgid(0), os.getsid(0), os.getresuid(), os.getresgid(), sorted(os.getgroups())),
        *(sorted(os.sched_getaffinity(0)), os.getpriority(os.PRIO_PROCESS, 0)),
        [resource.getrlimit(limit) for limit in _LIMITS],
        multiprocessing.spawn.get_executable(),
        sorted(item for item in os.environ.items() if item[0].startswith(_AT_START)),
    )


def is_told(descriptor: int, seconds: float | None) -> bool:
    """Whether there is an answer to read, or an end of them, within this time; None: wait for it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(None if seconds is None else 1000 * seconds))


def answer(descriptor: int) -> int | None:
    """The next number from a server; None when it is gone."""
    data = os.read(descriptor, fork_server.ANSWER.size)
    return fork_server.ANSWER.unpack(data)[0] if data else None
