"""What a command costs in CPU seconds, with every process that it starts, also one that outlives it by a moment.

adopt()                              # once, before anything is started
spent = count([sys.executable, "-m", "vla_data", "--help"])
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36  # <sys/prctl.h>


@dataclass(frozen=True, slots=True)
class Spent:
    """What a command cost, and what it wrote on standard output."""

    cpu: float
    wall: float
    stdout: str


def adopt() -> None:
    """Make orphans of commands children of this process, so that they are waited for and counted."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def count(command: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Spent:
    """Run a command to its end and to that of all that it started.

    Raises:
        RuntimeError: it ended with another code than 0.
    """
    before, begin = _spent(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, env=env, cwd=cwd, stdout=out)
        code, wall = None, 0.0
        while True:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                break
            if pid == process.pid:
                code, wall = os.waitstatus_to_exitcode(status), time.perf_counter() - begin
        process.returncode = code
        if code:
            raise RuntimeError(f"{' '.join(command[:4])} ended with {code}")
        out.seek(0)
        return Spent(_spent() - before, wall, out.read())


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
