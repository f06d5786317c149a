"""P15: a dataset ten times larger takes ten times as long to convert, and the same memory.

    python -m benchmarks.p15_growth_conversion [--episodes 40]

HDF5 to LeRobot, RLDS to LeRobot, LeRobot to RLDS and LeRobot to robomimic, of N and 10 N episodes, images as JPEG.
Start-up (a conversion of one episode) is subtracted for `time - start-up`, which should be 10. Memory is the peak
of the largest single process, and of the whole tree. N episodes should be several parts of 16 for each worker, or
the smaller conversion never has a full part in memory.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.demos import DECLARED, FPS, write_demos

_PER_FILE = 20


def convert(source: Path, out: Path, *options: str) -> harness.Run:
    """Run the command with two workers."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "vla_data", "convert", str(source), str(out), "--workers", "2", *options]
    run = harness.run_command(command)
    if not run.ok:
        raise SystemExit(run.error())
    return run


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=96, help="of the smaller dataset")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    counts = {"one": 1, "small": options.episodes, "large": 10 * options.episodes}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="vla-data-p15-") as folder:
        root = Path(folder)
        for name, count in counts.items():
            demos = min(count, _PER_FILE)
            files = -(-count // demos)
            write_demos(root / "hdf5" / name, files=files, demos=demos, size=options.size, steps=options.steps)
        # RLDS and LeRobot datasets are what the conversions before them wrote.
        for source, target, words in (
            ("hdf5", "lerobot", DECLARED),
            ("lerobot", "rlds", ()),
            ("rlds", "lerobot", ("--fps", str(FPS))),
            ("lerobot", "robomimic", ()),
        ):
            runs = {}
            for name in counts:
                out = root / target / name
                if source == "rlds":
                    out = root / "again" / name
                runs[name] = convert(root / source / name, out, "--to", target, *words)
            rows.append(_row(f"{source} to {target}", runs, counts))
            print(harness.table(rows[-1:]), flush=True)
    print(f"\n{counts['small']} and {counts['large']} episodes of {options.steps} steps, 2 cameras")
    print(harness.table(rows))
    if options.output:
        harness.write_json(options.output, {"machine": harness.machine("numpy", "pyarrow", "h5py"), "rows": rows})


def _row(name: str, runs: dict[str, harness.Run], counts: dict[str, int]) -> dict[str, Any]:
    start, small, large = (runs[key].seconds for key in counts)
    return {
        "conversion": name,
        "start-up s": start,
        "N s": small,
        "10 N s": large,
        "time": large / small,
        "time - start-up": (large - start) / (small - start),
        "N MB": runs["small"].peak_process_mb,
        "10 N MB": runs["large"].peak_process_mb,
        "memory": runs["large"].peak_process_mb / runs["small"].peak_process_mb,
        "N tree MB": runs["small"].peak_tree_mb,
        "10 N tree MB": runs["large"].peak_tree_mb,
    }


if __name__ == "__main__":
    main()
