"""Whether this process may take the memory and start the threads that libraries need.

Where they can't, OpenBLAS and Arrow end the process (SIGABRT, or a traceback of Python's) and nobody says why.
"""

from __future__ import annotations

import os
import resource
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

from vla_data.errors import MachineError

_MEMORY: Final = 512 << 20
_OF_A_CORE: Final = 16 << 20
"""For the stack and the buffers of each core's thread."""
_THREADS: Final = 16
_FEW: Final = 1024
"""Of threads: a limit above it is met by other things first."""
# The columns of /proc/self/statm, in pages: proc(5).
_LIMITS: Final = (("ulimit -v", resource.RLIMIT_AS, 0), ("ulimit -d", resource.RLIMIT_DATA, 5))


def check_room() -> None:
    """Refuse to begin where a library would end the process.

    Raises:
        MachineError: E703.
    """
    cores = os.cpu_count() or 1
    _check_memory(_MEMORY + cores * _OF_A_CORE)
    if _most_threads() < _FEW:
        _check_threads(_THREADS + cores)


def _check_memory(wanted: int) -> None:
    for name, limit, column in _LIMITS:
        most = resource.getrlimit(limit)[0]
        if most == resource.RLIM_INFINITY:
            continue
        left = most - _pages(column) * resource.getpagesize()
        if left < wanted:
            raise MachineError(
                "E703",
                f"the shell's limit ({name}) leaves {max(0, left) >> 20:,} MiB of memory, and libraries that get "
                f"less than {wanted >> 20:,} MiB end the process without a word: raise it",
            )


def _pages(column: int) -> int:
    with suppress(OSError):  # not everywhere; then nothing is known to be used
        return int(Path("/proc/self/statm").read_text().split()[column])
    return 0


def _most_threads() -> int:
    """How many threads this user, or this container, may have; a large number where nothing says so."""
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    found = [most] if most != resource.RLIM_INFINITY else []
    with suppress(OSError, ValueError):  # not there, or "max"
        found.append(int(Path("/sys/fs/cgroup/pids.max").read_text()))
    return min(found, default=_FEW)


def _check_threads(wanted: int) -> None:
    """Start so many threads at once, which end at once."""
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(wanted)]
    started = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread)
    except RuntimeError:
        raise MachineError(
            "E703",
            f"only {len(started)} of {wanted} threads could be started, and libraries end the process without a "
            "word then: raise the limit of processes (ulimit -u, or the container's)",
        ) from None
    finally:
        end.set()
        for thread in started:
            thread.join()
