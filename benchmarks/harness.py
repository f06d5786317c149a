"""Run two sides in turn, each in its own process, and say on which machine.

runs = alternate({"ours": run_ours, "peer": run_peer}, repeats=3)   # ours, peer, ours, peer, ...
print(table([{"side": side, "s": median(run.seconds for run in done)} for side, done in runs.items()]))
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parent.parent

_SAMPLE_SECONDS = 0.1
_RESULT_MARK = "benchmark-result: "


@dataclass(frozen=True, slots=True)
class Run:
    """One finished subprocess. Memory is resident, in MB of 10^6 bytes, and includes mapped files.

    `peak_tree_mb` sums the process and its descendants at one moment; pages they share count more than once.
    `peak_process_mb` is of the largest one, by the kernel's own high-water mark.
    """

    seconds: float
    exit_code: int
    peak_tree_mb: float
    peak_process_mb: float
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def error(self) -> str:
        """The last lines it wrote, for a message."""
        lines = (self.stderr or self.stdout).strip().splitlines()
        return "\n".join(lines[-8:])


@dataclass(slots=True)
class _MemoryWatch:
    """Samples the resident memory of a process and its descendants until stopped."""

    pid: int
    tree_mb: float = 0.0
    process_mb: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join()

    def _watch(self) -> None:
        try:
            root = psutil.Process(self.pid)
        except psutil.NoSuchProcess:
            return
        while True:
            try:
                family = [self.pid, *(child.pid for child in root.children(recursive=True))]
            except psutil.Error:
                return
            self.process_mb = max(self.process_mb, *(memory_mb("VmHWM", pid) for pid in family))
            self.tree_mb = max(self.tree_mb, self.process_mb, sum(memory_mb("VmRSS", pid) for pid in family))
            if self._stop.wait(_SAMPLE_SECONDS):
                return


def memory_mb(field: Literal["VmRSS", "VmHWM"], pid: int | Literal["self"] = "self") -> float:
    """Resident memory now, or its high-water mark; 0 for a process that has ended.

    Not `ru_maxrss`: that keeps what the parent held at `exec`, 480 MB in a process that TensorFlow started.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    for line in status.splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def run_command(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Run:
    """Run `command` from the repository's root and measure it from start to exit.

    A failing command is a `Run` with its exit code; only one that cannot be started raises.
    """
    variables = {**os.environ, **(env or {})}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=REPOSITORY, env=variables)
        watch = _MemoryWatch(process.pid)
        watch.start()
        process.wait()
        seconds = time.perf_counter() - start
        watch.stop()
        out.seek(0)
        err.seek(0)
        return Run(
            seconds=seconds,
            exit_code=process.returncode,
            peak_tree_mb=watch.tree_mb,
            peak_process_mb=watch.process_mb,
            stdout=out.read(),
            stderr=err.read(),
        )


def run_function(target: str, /, **arguments: Any) -> tuple[Run, Any]:
    """Call `module:function` in a fresh interpreter; arguments and result are JSON; None if it failed."""
    run = run_command([sys.executable, "-m", "benchmarks.harness", target, json.dumps(arguments)])
    for line in reversed(run.stdout.splitlines()):
        if run.ok and line.startswith(_RESULT_MARK):
            return run, json.loads(line.removeprefix(_RESULT_MARK))
    return run, None


def alternate(sides: Mapping[str, Callable[[int], T]], *, repeats: int) -> dict[str, list[T]]:
    """Call each side in turn with the repeat's number, so that a slow spell of the machine hits all."""
    results: dict[str, list[T]] = {name: [] for name in sides}
    for repeat in range(repeats):
        for name, side in sides.items():
            results[name].append(side(repeat))
    return results


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def spread(values: Sequence[float]) -> float:
    """(largest - smallest) / median: how far to trust a median."""
    return (max(values) - min(values)) / statistics.median(values)


def machine(*packages: str) -> dict[str, Any]:
    """What a figure depends on: processor, cores this process may use, memory, system and versions."""
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := _version(name))},
    }


def usable_cores() -> int:
    return len(os.sched_getaffinity(0))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows with the same keys as aligned columns; figures to the right."""
    if not rows:
        return ""
    heads = list(rows[0])
    cells = [[_cell(row.get(head)) for head in heads] for row in rows]
    widths = [max(len(head), *(len(line[i]) for line in cells)) for i, head in enumerate(heads)]
    right = [all(isinstance(row.get(head), int | float | None) for row in rows) for head in heads]
    lines = [heads, ["-" * width for width in widths], *cells]
    return "\n".join(
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
    return str(value)


def write_json(path: str | Path, content: object) -> None:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content, indent=2) + "\n")


def _main() -> None:
    module, _, function = sys.argv[1].partition(":")
    result = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    print(_RESULT_MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    _main()
