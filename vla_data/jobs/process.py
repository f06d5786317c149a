"""Processes that do not run the user's script again, and end with the one that started them."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vla_data.jobs.safe_path import safe_path

_PR_SET_PDEATHSIG: Final = 1  # from <sys/prctl.h>
_START_LOCK: Final = threading.Lock()
_DAEMON_LOCK: Final = threading.Lock()

_server: int | None = None


@contextlib.contextmanager
def _some_folder() -> Iterator[None]:
    """Be in a folder that exists: ``multiprocessing`` tells children the current one, which somebody may have
    removed. No path relative to such a folder leads anywhere, so nothing else changes.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        here = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.chdir("/")
        try:
            yield
        finally:
            os.fchdir(here)
            os.close(here)
    else:
        yield


@contextlib.contextmanager
def without_main() -> Iterator[None]:
    """Start a process that does not run the user's main module again.

    ``multiprocessing`` re-imports ``__main__`` in each child, which starts the user's script anew unless it has
    the ``if __name__ == "__main__"`` guard. Workers here need nothing from it.
    """
    with _START_LOCK:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            with _some_folder(), safe_path():
                yield
        finally:
            sys.modules["__main__"] = main


class Process(multiprocessing.context.SpawnProcess):
    """A spawned process that does not run the user's main module again; see `without_main`."""

    def start(self) -> None:
        """Start it, also from a daemonic process, as the workers of Dask's nannies are.

        ``multiprocessing`` refuses that lest children outlive a parent that ends without ceremony. Ours don't:
        the kernel ends them with it.
        """
        config: dict[str, Any] = multiprocessing.process.current_process()._config  # type: ignore[attr-defined]
        with _DAEMON_LOCK:
            daemon = config.pop("daemon", None)
            try:
                super().start()
            finally:
                if daemon is not None:
                    config["daemon"] = daemon

    @staticmethod
    def _Popen(process_obj: Any) -> Any:  # noqa: N802 - the name that multiprocessing looks for
        with without_main():
            return multiprocessing.context.SpawnProcess._Popen(process_obj)


def end_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent ends in any way: the process ``parent``, or the server that
    forked this one for it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != (_server or parent):  # it died before this one asked to be told
        os._exit(1)


def adopt(server: int) -> None:
    """Say that this process was forked by ``server`` for what the rest of its code calls its parent."""
    global _server
    _server = server
    end_with_parent(server)
