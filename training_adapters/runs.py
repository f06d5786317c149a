"""A run's folder: its configuration, its metrics as JSON lines, its checkpoints, and a line of progress."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from vla_data.errors import TargetExistsError, UsageError
from vla_data.files.write import is_unforeseen, machine_errors, write_file
from vla_data.safety import strict_json
from vla_data.safety.text import show


class Run:
    """``runs/NAME`` with ``config.json``, ``metrics.jsonl`` and ``step_N``.

    Args:
        folder: of the run.
        config: a dataclass of options.
        resume: go on with a run that is there; else it must not be.
        wandb: log to Weights & Biases too.
        out: where progress is shown; None: standard error.

    Raises:
        TargetExistsError: E411, the run is there.
        UsageError: E003, it is to be resumed and is not there; E301, with other options; E006, wandb is not
            installed.
    """

    def __init__(
        self, folder: Path, config: Any, *, resume: bool = False, wandb: bool = False, out: TextIO | None = None
    ) -> None:
        self.folder, self._out, self._began = folder, out or sys.stderr, time.monotonic()
        facts = asdict(config)
        stored = folder / "config.json"
        if resume:
            _same(stored, facts)
        elif folder.exists() and any(not is_unforeseen(path.name, stored.name) for path in folder.iterdir()):
            raise TargetExistsError("E411", f"{show(folder)} exists; --resume goes on with it")
        self._wandb: Any = _wandb(folder, facts) if wandb else None
        with machine_errors("cannot write the run's folder"):
            folder.mkdir(parents=True, exist_ok=True)
            write_file(stored, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())

    def keep(self, updates: int) -> None:
        """Forget metrics of updates after these, which a resumed run makes again."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["update"] <= updates]
        write_file(path, "".join(kept).encode())

    def log(self, update: int, metrics: Mapping[str, float], *, show_it: bool = True) -> None:
        """A line of metrics, and one for a person."""
        with machine_errors("cannot write metrics.jsonl"), open(self.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps({"update": update, **metrics}) + "\n")
        if self._wandb is not None:
            self._wandb.log(dict(metrics), step=update)
        if show_it:
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.say(f"update {update}  {numbers}")

    def say(self, line: str) -> None:
        """A line of progress, with the seconds since the run began."""
        self._out.write(f"[{time.monotonic() - self._began:6.1f} s] {line}\n")
        self._out.flush()


def _same(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        stored = strict_json.loads(path.read_bytes(), name=path.name)
    except OSError:
        raise UsageError("E003", f"there is no run to go on with: {show(path)} is missing") from None
    now = json.loads(json.dumps(facts))
    if stored != now:
        had = stored if isinstance(stored, dict) else {}
        names = ", ".join(sorted(name for name in now if had.get(name) != now[name]))
        raise UsageError("E301", f"the run was begun with other options: {names}")


def _wandb(folder: Path, facts: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ModuleNotFoundError:
        raise UsageError("E006", "--wandb needs the package: pip install wandb; or leave the option out") from None
    return wandb.init(project="vla-train", name=folder.name, config=dict(facts), dir=str(folder.parent))
