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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

from benchmarks.tree import memory_kb

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parent.parent

_RESULT_MARK = "benchmark-result: "


@dataclass(frozen=True, slots=True)
class Run:
    """One finished command with all processes that it started. Memory is in MB of 10^6 bytes, with mapped files.

    `cpu_seconds` are of user and system; `pss_mb` is the most that all held at one moment, pages that they share
    counted once; `peak_tree_mb` counts these more than once; `peak_process_mb` is of the largest one, by the
    kernel's own high-water mark.
    """

    seconds: float
    exit_code: int
    peak_tree_mb: float
    peak_process_mb: float
    stdout: str
    stderr: str
    cpu_seconds: float = 0.0
    pss_mb: float = 0.0

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    def error(self) -> str:
        """The last lines it wrote, for a message."""
        lines = (self.stderr or self.stdout).strip().splitlines()
        return "\n".join(lines[-8:])


def memory_mb(field: Literal["VmRSS", "VmHWM"], pid: int | Literal["self"] = "self") -> float:
    """Resident memory now, or its high-water mark; 0 for a process that has ended.

    Not `ru_maxrss`: that keeps what the parent held at `exec`, 480 MB in a process that TensorFlow started.
    """
    return memory_kb(f"/proc/{pid}/status", field) * 1024 / 1e6


def run_command(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Run:
    """Run `command` from the repository's root and measure it, from start to exit, by `benchmarks.tree`.

    A failing command is a `Run` with its exit code; only one that cannot be started raises.
    """
    variables = {**os.environ, **(env or {})}
    variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
        tempfile.NamedTemporaryFile() as result,
    ):
        watched = [sys.executable, "-m", "benchmarks.tree", result.name, "--", *command]
        subprocess.run(watched, stdout=out, stderr=err, cwd=REPOSITORY, env=variables)
        out.seek(0)
        err.seek(0)
        text = Path(result.name).read_text()
        if not text:
            raise RuntimeError(f"{' '.join(command[:3])} cannot be started:\n{err.read()}")
        facts = json.loads(text)
        return Run(
            seconds=facts["seconds"],
            exit_code=facts["exit_code"],
            peak_tree_mb=max(facts["tree_mb"], facts["process_mb"]),
            peak_process_mb=facts["process_mb"],
            stdout=out.read(),
            stderr=err.read(),
            cpu_seconds=facts["cpu_seconds"],
            pss_mb=facts["pss_mb"],
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


def ranged(values: Sequence[float], digits: int = 2) -> str:
    """A median with the least and the greatest."""
    found = (statistics.median(values), min(values), max(values))
    middle, low, high = (f"{number:,.{digits}f}" for number in found)
    return middle if low == high else f"{middle} ({low}-{high})"


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
