"""What starting costs: the package, the command line, and small jobs, in CPU seconds of all their processes.

    python -m benchmarks.p19_start [--repeats 7] [--before CHECKOUT]

The sides run in turn: this checkout and, with ``--before``, another one of any version. Every process that a
command starts is counted, also one that outlives it by a moment: this one adopts them and waits. Medians, with the
least and the greatest; the first round, which compiles, is left out. Goals: `import vla_data` 0.12 s, `--help`
0.15 s, a job of two workers 0.9 s. Leaves with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks import harness
from vla_data.jobs.part import MAX_EPISODES

_PR_SET_CHILD_SUBREAPER: Final = 36  # <sys/prctl.h>
_LOOP: Final = """
import sys, time
from pathlib import Path
import vla_data as vd
for number in range({jobs}):
    vd.run(vd.open_source("{source}"), (), vd.open_sink(Path("{out}") / str(number), format="rlds"), workers=2)
"""


def write_rollouts(folder: Path, count: int) -> Path:
    """Episodes that cost next to nothing: 8 steps of 24x32 pixels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        boxed = np.empty((), dtype=object)
        boxed[()] = {
            "image": random.integers(0, 256, (9, 24, 32, 3), dtype=np.uint8),
            "action": np.full((8, 7), 0.05, dtype=np.float32),
            "info": [{"success": True}] * 8,
            "instruction": "pick",
        }
        np.savez(folder / f"{number:03d}.npz", boxed)
    return folder


def seconds(words: tuple[str, ...], checkout: Path, out: Path, _round: int) -> float:
    """CPU seconds of a command of a checkout and of all that it starts."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    before = _spent()
    variables = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(out.parent / "compiled")}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    command = subprocess.Popen([sys.executable, "-P", *words], cwd=out, env=variables, stdout=subprocess.DEVNULL)
    code = None
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            break
        if pid == command.pid:
            code = os.waitstatus_to_exitcode(status)
    command.returncode = code
    if code:
        raise SystemExit(f"{' '.join(words[:4])} of {checkout} ended with {code}")
    return _spent() - before


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cases(folder: Path) -> Mapping[str, tuple[tuple[str, ...], float | None]]:
    """What is run, and the goal in seconds."""
    few = write_rollouts(folder / "few", 8)
    many = write_rollouts(folder / "many", 2 * MAX_EPISODES)
    out = folder / "out"
    job = ("--workers", "2", "--min-success-steps", "1")
    return {
        "python": (("-c", ""), None),
        "import numpy": (("-c", "import numpy"), None),
        "import vla_data": (("-c", "import vla_data"), 0.12),
        "vla-data --help": (("-m", "vla_data", "--help"), 0.15),
        "align, 8 episodes, one part": (("-m", "vla_data", "align", str(few), str(out / "a"), *job), 0.9),
        "align, 32 episodes, two workers": (("-m", "vla_data", "align", str(many), str(out / "a"), *job), 0.9),
        "convert to rlds, 32 episodes, two workers": (
            ("-m", "vla_data", "convert", str(many), str(out / "a"), "--to", "rlds", "--workers", "2"),
            0.9,
        ),
        "one job of a script": (("-c", _LOOP.format(jobs=1, source=many, out=out)), None),
        "six jobs of a script": (("-c", _LOOP.format(jobs=6, source=many, out=out)), None),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--output", type=Path, help="JSON")
    chosen = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    checkouts = {"now": harness.REPOSITORY}
    if chosen.before is not None:
        checkouts = {"before": chosen.before.absolute(), **checkouts}
    rows: list[dict[str, object]] = []
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, (words, goal) in cases(folder).items():
            sides: dict[str, Callable[[int], float]] = {
                side: partial(seconds, words, checkout, folder / "out") for side, checkout in checkouts.items()
            }
            found = harness.alternate(sides, repeats=chosen.repeats + 1)
            row: dict[str, object] = {"case": case}
            for side, all_values in found.items():
                values = all_values[1:]
                row[f"{side}, CPU s"] = harness.median(values)
                row[f"{side}, range"] = f"{min(values):.2f}-{max(values):.2f}"
            row["goal"] = goal
            missed += goal is not None and harness.median(found["now"][1:]) > goal
            rows.append(row)
    print(harness.table(rows))
    if chosen.output is not None:
        harness.write_json(chosen.output, {"machine": harness.machine("numpy", "pyarrow"), "rows": rows})
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
