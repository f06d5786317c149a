"""P11: time and peak memory of `vla-data build` from 64 to 640 (and 6,400) episodes.

    python -m benchmarks.p11_growth [--full]

Memory must stay flat and time grow in proportion. The peak is of the largest single process and of the whole
tree of processes, as in P1.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import harness
from benchmarks.episodes import write_rollouts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="also 6,400 episodes")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        counts = (64, 640, 6400) if arguments.full else (64, 640)
        # One set of files; each count reads the first so many of them.
        write_rollouts(root / "rollouts", episodes=counts[-1], size=(96, 128), layout="ppo", steps=30, workers=2)
        for sink in ("build", "align"):
            for count in counts:
                out = root / f"{sink}{count}"
                base = [sys.executable, "-m", "vla_data"]
                if sink == "build":
                    command = [
                        "build",
                        "ppo_sft_aligned",
                        "--input",
                        str(root / "rollouts"),
                        "--data-dir",
                        str(out),
                    ]
                else:
                    command = ["align", str(root / "rollouts"), str(out)]
                run = harness.run_command([*base, *command, "--max-episodes", str(count), "--json"])
                if not run.ok:
                    raise SystemExit(run.error())
                rows.append(
                    {
                        "command": sink,
                        "episodes": count,
                        "s": run.seconds,
                        "ms an episode": 1000 * run.seconds / count,
                        "largest process MB": run.peak_process_mb,
                        "all processes MB": run.peak_tree_mb,
                    }
                )
                shutil.rmtree(out)
    print(harness.table(rows))
    if arguments.output:
        harness.write_json(arguments.output, {"machine": harness.machine("numpy"), "rows": rows})


if __name__ == "__main__":
    main()
