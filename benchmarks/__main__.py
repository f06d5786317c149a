"""Run the benchmarks and write ``docs/benchmarks.md`` anew.

    python -m benchmarks                      every case in full, five repeats: hours
    python -m benchmarks --quick              fewer and shorter: under 20 minutes on two idle cores
    python -m benchmarks --quick P1 P9        these cases alone; the others keep what they have
    python -m benchmarks --page               only the page, from what is kept

Each case runs in a process of its own and its result is kept at once in ``benchmarks/results``, so that a case
that fails, or a run that is stopped, costs nothing else. A quick result never replaces a full one of the same
code, unless ``--replace`` says so. Leaves with 1 where a case failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import harness, page, results
from benchmarks.suite import CASES, Case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(case.name for case in CASES)}")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int, help="default 5, quick 2, and 1 of P14")
    parser.add_argument("--lerobot-python", default=os.environ.get("LEROBOT_PYTHON"), help="or LEROBOT_PYTHON")
    parser.add_argument("--limit", type=float, help="seconds for one case; default: quick 600, else none")
    parser.add_argument("--replace", action="store_true", help="keep a quick result in place of a full one")
    parser.add_argument("--page", action="store_true", help="write the page and measure nothing")
    chosen = parser.parse_args()
    if odd := set(chosen.cases) - {case.name for case in CASES}:
        parser.error(f"there is no case {', '.join(sorted(odd))}")
    failed = []
    for case in () if chosen.page else CASES:
        if chosen.cases and case.name not in chosen.cases:
            continue
        start = time.perf_counter()
        said = _run(case, chosen)
        print(f"{case.name}: {said} ({time.perf_counter() - start:.0f} s)", flush=True)
        if said.startswith("failed"):
            failed.append(case.name)
        _write_page()
    _write_page()
    return 1 if failed else 0


def _write_page() -> None:
    page.FILE.write_text(page.page((case.title, case.about, results.load(case.name)) for case in CASES))


def _run(case: Case, chosen: argparse.Namespace) -> str:
    """Run one case and keep what it gives; returns what became of it."""
    if lacks := [name for name in case.needs if importlib.util.find_spec(name) is None]:
        return f"left out, it needs {', '.join(lacks)}"
    if case.lerobot == "needed" and not chosen.lerobot_python:
        return "left out, it needs --lerobot-python"
    before = results.load(case.name)
    commit, code = results.state(case.code)
    full_before = before is not None and before.settings.get("mode") == "full" and not before.is_old()
    if chosen.quick and full_before and not chosen.replace:
        return "left out, there is a full result of this code"
    repeats = chosen.repeats or (case.quick_repeats if chosen.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        command = [sys.executable, "-m", f"benchmarks.{case.module}", "--output", str(output)]
        command += case.quick if chosen.quick else case.full
        command += ["--repeats", str(repeats)] if case.repeats else []
        if case.lerobot != "no" and chosen.lerobot_python:
            command += ["--lerobot-python", chosen.lerobot_python]
        limit = chosen.limit or (600.0 if chosen.quick else None)
        try:
            code_of = subprocess.run(command, cwd=harness.REPOSITORY, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            return f"failed, it took more than {limit:.0f} s"
        if not output.exists():
            return f"failed with {code_of}"
        content = json.loads(output.read_text())
    settings = {"mode": "quick" if chosen.quick else "full", **({"repeats": repeats} if case.repeats else {})}
    tables = results.tables_of(content)
    machine = content.get("machine", {})
    results.save(results.Result(case.name, commit, code, tables, machine=machine, settings=settings))
    return "measured"


if __name__ == "__main__":
    sys.exit(main())
