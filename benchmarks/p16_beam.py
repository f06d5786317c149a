"""P16: cost and memory of an episode on Beam, from 100 to 10,000 of them, beside the local engine.

    python -m benchmarks.p16_beam [--counts 100 1000 10000]

The cost of an episode must be flat, and no process may grow beyond one episode and its buffers. Start-up (Beam's
imports, and the runner's) is the same command on one episode, and is left out of the cost.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks import harness
from benchmarks.episodes import write_rollouts

ENGINES = {
    "local": (),
    "beam": (
        "--engine",
        "beam",
        "--",
        "--runner=FnApiRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # One set of files; each count reads the first so many of them.
        most = max(arguments.counts)
        write_rollouts(root / "rollouts", episodes=most, size=(48, 64), layout="ppo", steps=20, workers=2)
        for engine, words in ENGINES.items():
            start = 0.0
            for count in (1, *sorted(arguments.counts)):
                out = root / f"{engine}{count}"
                command = ["build", "ppo_sft_aligned", "--input", str(root / "rollouts"), "--data-dir", str(out)]
                limit = ["--max-episodes", str(count), "--json"]
                run = harness.run_command([sys.executable, "-m", "vla_data", *command, *limit, *words])
                if not run.ok:
                    raise SystemExit(run.error())
                shutil.rmtree(out)
                if count == 1:
                    start = run.seconds
                    continue
                rows.append(
                    {
                        "engine": engine,
                        "episodes": count,
                        "start-up s": start,
                        "s": run.seconds,
                        "ms an episode": 1000 * (run.seconds - start) / count,
                        "largest process MB": run.peak_process_mb,
                        "all processes MB": run.peak_tree_mb,
                    }
                )
                print(harness.table(rows[-1:]), flush=True)
    print(harness.table(rows))
    if arguments.output:
        harness.write_json(arguments.output, {"machine": harness.machine("numpy"), "rows": rows})


if __name__ == "__main__":
    main()
