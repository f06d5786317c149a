"""Run a command and say what it and every process that it starts took, also those that outlive it by a moment.

    python -m benchmarks.tree RESULT -- COMMAND...

A process of its own, so that it can adopt and wait for whatever the command leaves (Linux), and so that nothing of
the caller's counts. Its result is JSON: ``exit_code``, ``seconds`` from start to exit of the command,
``cpu_seconds`` (user and system) of the whole tree, and memory in MB of 10^6 bytes: ``pss_mb``, the most that the
tree held at one moment with shared pages counted once (PSS), ``process_mb``, the high-water mark of its largest
process, and ``tree_mb``, the sum of resident sizes.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36  # <sys/prctl.h>
_SAMPLE_SECONDS: Final = 0.2


def memory_kb(file: str, word: str) -> int:
    """A figure of ``/proc/<pid>/status`` or ``smaps_rollup``; 0 for a process that has ended."""
    try:
        lines = Path(file).read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{word}:")), 0)


def descendants(pid: int) -> list[int]:
    """A process's children and theirs, from the kernel's own lists."""
    out: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            out += [child, *descendants(child)]
    return out


@dataclass(slots=True)
class _Watch:
    """The most memory that a process's descendants held."""

    stop: threading.Event = field(default_factory=threading.Event)
    pss: int = 0
    process: int = 0
    tree: int = 0

    def run(self) -> None:
        while not self.stop.wait(_SAMPLE_SECONDS):
            family = descendants(os.getpid())
            self.pss = max(self.pss, sum(memory_kb(f"/proc/{pid}/smaps_rollup", "Pss") for pid in family))
            self.tree = max(self.tree, sum(memory_kb(f"/proc/{pid}/status", "VmRSS") for pid in family))
            marks = [memory_kb(f"/proc/{pid}/status", "VmHWM") for pid in family]
            self.process = max([self.process, *marks])


def main() -> None:
    result, command = Path(sys.argv[1]), sys.argv[3:]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    watch = _Watch()
    watcher = threading.Thread(target=watch.run)
    start = time.perf_counter()
    process = subprocess.Popen(command)
    watcher.start()
    code, seconds = 0, 0.0
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == process.pid:
            code, seconds = os.waitstatus_to_exitcode(status), time.perf_counter() - start
    process.returncode = code
    watch.stop.set()
    watcher.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    facts = {
        "exit_code": code,
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "pss_mb": watch.pss * 1024 / 1e6,
        "process_mb": watch.process * 1024 / 1e6,
        "tree_mb": watch.tree * 1024 / 1e6,
    }
    result.write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
