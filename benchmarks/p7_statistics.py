"""P7: statistics of a million rows of 7 in memory, against NumPy, openpi's RunningStats and lerobot's.

    python -m benchmarks.p7_statistics --lerobot-python LEROBOT_VENV/bin/python

NumPy computes mean, std, min, max and two quantiles of the whole table, as OpenVLA does, in float32; so do we, in
float64. openpi gets the batches of its script, 32 rows; lerobot gets episodes of 100 and aggregates them. The
goals: no slower than NumPy, 50 times openpi.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.peers.openpi_stats import running_stats

LEVELS = [0.01, 0.99]
BATCH = 32
EPISODE = 100
SCRIPT = Path(__file__).parent / "peers/lerobot_stats.py"
# openpi's code is slow enough that a part tells its rate.
SHARE = 10


def rows(count: int) -> Any:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(count, 7)).astype(np.float32)
    table[:, 6] = np.where(table[:, 6] < 0, -1, 1)
    return table


def ours(table: Any, _repeat: int) -> tuple[float, Any]:
    from vla_data.statistics import VectorStats

    start = time.perf_counter()
    stats = VectorStats.of(table)
    found = {"mean": stats.mean, "std": stats.std, "min": stats.min, "max": stats.max}
    found["q01"], found["q99"] = stats.quantiles(LEVELS)
    return (time.perf_counter() - start) / len(table), found


def ours_by_episode(table: Any, _repeat: int) -> tuple[float, Any]:
    from vla_data.statistics import VectorStats

    start = time.perf_counter()
    stats = VectorStats.of(table[:EPISODE])
    for i in range(EPISODE, len(table), EPISODE):
        stats = stats.update(table[i : i + EPISODE])
    found = {"q01": stats.quantiles(LEVELS)[0], "mean": stats.mean, "std": stats.std}
    return (time.perf_counter() - start) / len(table), found


def numpy_(table: Any, _repeat: int) -> tuple[float, Any]:
    start = time.perf_counter()
    found = {key: getattr(table, key)(axis=0) for key in ("mean", "std", "min", "max")}
    found["q01"], found["q99"] = np.quantile(table, LEVELS, axis=0)
    return (time.perf_counter() - start) / len(table), found


def openpi(kind: Any, table: Any, _repeat: int) -> tuple[float, Any]:
    part = table[: len(table) // SHARE]
    start = time.perf_counter()
    stats = kind()
    for i in range(0, len(part), BATCH):
        stats.update(part[i : i + BATCH])
    stats.get_statistics()
    return (time.perf_counter() - start) / len(part), None


def lerobot(python: str, table: Any, _repeat: int) -> tuple[float, Any]:
    part = table[: len(table) // SHARE]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.npy")
        np.save(file, part)
        run = harness.run_command([python, str(SCRIPT), "arrays", str(file), str(EPISODE)])
    if not run.ok:
        raise SystemExit(run.error())
    result = json.loads(run.stdout.rsplit("benchmark-result: ", 1)[1])
    return result["seconds"] / len(part), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), help="or LEROBOT_PYTHON")
    parser.add_argument("--openpi", help="openpi's src/openpi/shared/normalize.py, to run it itself")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    table = rows(arguments.rows)
    sides: dict[str, Callable[[int], tuple[float, Any]]] = {
        "ours": partial(ours, table),
        "numpy": partial(numpy_, table),
        "ours, updated by episode": partial(ours_by_episode, table),
        "openpi": partial(openpi, running_stats(arguments.openpi), table),
    }
    if arguments.lerobot_python:
        sides["lerobot"] = partial(lerobot, arguments.lerobot_python, table)
    done = harness.alternate(sides, repeats=arguments.repeats)
    seconds = {name: harness.median(one for one, _ in runs) for name, runs in done.items()}
    exact = np.quantile(table.astype(np.float64), LEVELS, axis=0)
    found = done["ours"][0][1]
    if not (np.array_equal(found["q01"], exact[0]) and np.array_equal(found["q99"], exact[1])):
        raise SystemExit("ours is not exact")
    goals = {"numpy": 1.0, "openpi": 50.0}
    lines = []
    for name, each in seconds.items():
        ratio = each / seconds["ours"]
        goal = "-" if name not in goals else "met" if ratio >= goals[name] else "MISSED"
        lines.append({"side": name, "million rows/s": 1e-6 / each, "times as long as ours": ratio, "goal": goal})
    print(harness.table(lines))
    if arguments.output:
        harness.write_json(arguments.output, {"machine": harness.machine("numpy"), "rows": lines})


if __name__ == "__main__":
    main()
