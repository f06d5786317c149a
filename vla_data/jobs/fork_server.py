"""A process that has this library loaded, and one thread, and forks workers for the process that started it.

A worker that is started from nothing loads the library again, which is most of what a small job costs. To fork the
user's own process instead is not safe, since TensorFlow, PyTorch and Beam have threads that hold locks. So
`vla_data.jobs.forked` starts this one, from what is installed and with no folder of the user's data on its path;
or it forks it of a program of ours that has done nothing yet.

A request is, over a socket of the parent's: lengths, a JSON object (what to import first, the environment), what
`multiprocessing` would send to a process that it spawns, and file descriptors: for the answers, as far as the
parent has them for standard output and error, and those that belong to the process. The answers are numbers: the
process, or 0 when it was not forked, and its exit code once it ended.

Both end with the process that they work for: this one is told by the kernel, or asks twice a second where the
kernel can't tell; a worker ends with this one, see `vla_data.jobs.process`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import multiprocessing.process
import multiprocessing.spawn
import os
import pickle
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from vla_data.jobs.process import adopt, end_with_parent

HEADER: Final = struct.Struct("=QQ")
"""Lengths of the JSON object and of what follows it."""
ANSWER: Final = struct.Struct("=q")
MAX_DESCRIPTORS: Final = 16
SETTINGS: Final = {
    "OPENBLAS_NUM_THREADS": "1",  # its threads start with NumPy
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # and this one with Arrow
}
"""The environment in which libraries are loaded without starting threads."""
SIGNALS: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
"""What is blocked until a server knows what to do about it."""
_POLL_SECONDS: Final = 0.5
_TASKS: Final = Path("/proc/self/task")

descriptors: list[int] = []
"""Of a worker: what belongs to its process."""


def main(request: int, parent: int, *, tied: bool) -> None:
    """Serve until the parent is gone, or wants no more and the last worker has ended.

    Args:
        request: the socket.
        parent: the process to work for.
        tied: whether the thread that started this process lives as long as the parent.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Whoever started the parent may have blocked SIGCHLD, too: this process would never hear of a worker's end.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*SIGNALS, signal.SIGCHLD))
    os.environ.update(SETTINGS)
    gc.freeze()  # a collection in a worker would copy every page that it looks at
    if tied:
        end_with_parent(parent)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in range(3):  # whoever reads what the parent writes must not wait for this process
        os.dup2(null, standard)
    os.close(null)
    _Server(socket.socket(fileno=request), parent).serve()


class _Server:
    def __init__(self, asked: socket.socket, parent: int) -> None:
        self._asked = asked
        self._parent = parent
        self._answers: dict[int, int] = {}
        """Worker -> where its parent hears of it."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(asked, selectors.EVENT_READ)
        self._ended, self._tell = os.pipe()
        for end in (self._ended, self._tell):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        self._selector.register(self._ended, selectors.EVENT_READ)
        self._watch: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # of another system, or an old one
            self._watch = os.pidfd_open(parent)
            self._selector.register(self._watch, selectors.EVENT_READ)

    def serve(self) -> None:
        wanted = True
        while wanted or self._answers:
            timeout = _POLL_SECONDS if self._watch is None else None
            ready = {key.fd for key, _ in self._selector.select(timeout)}
            if self._watch in ready or os.getppid() != self._parent:
                for pid in self._answers:  # where the kernel does not
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            if self._ended in ready:
                self._reap()
            if wanted and self._asked.fileno() in ready:
                wanted = self._answer()
                if not wanted:
                    self._selector.unregister(self._asked)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._ended, 1024):
                pass
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                answers = self._answers.pop(ended[0])
                _write(answers, os.waitstatus_to_exitcode(ended[1]))
                os.close(answers)

    def _answer(self) -> bool:
        """Do what the next request asks for; False when there will be none."""
        header, passed, _, _ = socket.recv_fds(self._asked, HEADER.size, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        try:
            if len(header) < HEADER.size:
                return False
            sizes = HEADER.unpack(header)
            body = _read(self._asked, sum(sizes))
            if len(body) < sum(sizes):
                return False
            facts = json.loads(body[: sizes[0]])
            load(facts["modules"])
            answers = passed.pop(0)
            pid = self._fork(facts, body[sizes[0] :], passed, answers) if is_alone() else 0
            _write(answers, pid)
            if pid:
                self._answers[pid] = answers
            else:
                os.close(answers)
            return True
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def _fork(self, facts: dict[str, Any], process: bytes, passed: list[int], answers: int) -> int:
        server = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            adopt(server)
            self._selector.close()
            self._asked.close()
            for mine in (self._ended, self._tell, self._watch, answers, *self._answers.values()):
                if mine is not None:
                    os.close(mine)
            code = _work(facts, process, passed, self._parent)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            _end(code)
        raise AssertionError("a process goes on that has ended")


def load(modules: Iterable[str]) -> None:
    """Import what there is of ``modules``."""
    new = [name for name in modules if name not in sys.modules]
    for name in new:
        with contextlib.suppress(ImportError):  # whoever needs it says so
            importlib.import_module(name)
    if new:
        gc.freeze()


@contextmanager
def quietly() -> Iterator[None]:
    """While it lasts, libraries are loaded without starting threads, unless the user's environment wants them."""
    mine = {name: value for name, value in SETTINGS.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            del os.environ[name]


def is_alone() -> bool:
    """Whether this process has no thread but this one, as far as the system tells."""
    return not _TASKS.is_dir() or len(list(_TASKS.iterdir())) == 1


def _work(facts: dict[str, Any], process: bytes, passed: list[int], parent: int) -> int:
    """Be the process that the parent has sent."""
    for standard in facts["standard"]:
        os.dup2(passed.pop(0), standard)
    os.environ.clear()
    os.environ.update(facts["environment"])
    importlib.invalidate_caches()
    if "numpy.random" in sys.modules:  # else all workers draw the same numbers
        sys.modules["numpy.random"].seed()
    descriptors[:] = passed
    sentinel = None
    with contextlib.suppress(AttributeError, OSError):
        sentinel = os.pidfd_open(parent)
    stream = io.BytesIO(process)
    me: Any = multiprocessing.process.current_process()
    me._inheriting = True
    try:
        multiprocessing.spawn.prepare(pickle.load(stream))
        sent: Any = pickle.load(stream)
    finally:
        del me._inheriting
    code: int = sent._bootstrap(parent_sentinel=sentinel)
    return code


def _end(code: int) -> None:
    """Leave as an interpreter does that was started for this alone."""
    finish: Callable[[], None] = atexit._run_exitfuncs
    with contextlib.suppress(BaseException):
        finish()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _read(stream: socket.socket, size: int) -> bytes:
    pieces = []
    while size and (piece := stream.recv(min(size, 1 << 20))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _write(answers: int, number: int) -> None:
    with contextlib.suppress(OSError):  # nobody wants to know any more
        os.write(answers, ANSWER.pack(number))


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """A handler; without one the signal wakes nobody."""
