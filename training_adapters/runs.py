"""A run's folder: its configuration, its metrics as JSON lines, its checkpoints, and a line of progress."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, TextIO

from training_adapters.stored import fitting, read_json, read_lines
from vla_data.errors import LockedError, TargetExistsError, UsageError
from vla_data.files.folders import walk
from vla_data.files.write import is_unforeseen, machine_errors, open_append, write_file
from vla_data.safety.text import show

METRICS: Final = "metrics.jsonl"


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
        LockedError: E801, another process works on it.
        UsageError: E003, it is to be resumed and is not there; E301, with other options; E131, with a link in its
            folder; E006, wandb is not installed.
    """

    def __init__(
        self, folder: Path, config: Any, *, resume: bool = False, wandb: bool = False, out: TextIO | None = None
    ) -> None:
        self.folder, self._out, self._began = folder, out or sys.stderr, time.monotonic()
        facts = asdict(config)
        stored = folder / "config.json"
        with machine_errors("cannot write the run's folder"):
            if not resume:
                folder.mkdir(parents=True, exist_ok=True)
            elif not folder.is_dir():
                raise UsageError("E003", f"there is no run to go on with: {show(stored)} is missing")
            self._held = _hold(folder)
            if resume:
                _check_links(folder)
                _same(stored, facts)
            elif any(not is_unforeseen(path.name, stored.name) for path in folder.iterdir()):
                raise TargetExistsError("E411", f"{show(folder)} exists; --resume goes on with it")
            self._wandb: Any = _wandb(folder, facts) if wandb else None
            write_file(stored, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())

    def keep(self, updates: int) -> None:
        """Forget metrics of updates after these, which a resumed run makes again."""
        path = self.folder / METRICS
        with fitting(show(path)):
            lines = read_lines(path, root=self.folder)
            kept = [line for line in lines if json.loads(line)["update"] <= updates]
        with machine_errors(f"cannot write {METRICS}"):
            write_file(path, kept)

    def log(self, update: int, metrics: Mapping[str, float], *, show_it: bool = True) -> None:
        """A line of metrics, and one for a person."""
        line = json.dumps({"update": update, **metrics}) + "\n"
        with machine_errors(f"cannot write {METRICS}"), open_append(self.folder / METRICS) as file:
            file.write(line.encode())
        if self._wandb is not None:
            self._wandb.log(dict(metrics), step=update)
        if show_it:
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            self.say(f"update {update}  {numbers}")

    def say(self, line: str) -> None:
        """A line of progress, with the seconds since the run began."""
        self._out.write(f"[{time.monotonic() - self._began:6.1f} s] {line}\n")
        self._out.flush()


class _Lock:
    """The lock of a folder, as long as a run of this process is there; it ends with the process."""

    __slots__ = ("__weakref__", "handle")

    def __init__(self, folder: Path) -> None:
        self.handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError("E801", f"another process works on the run {show(folder)}") from None
        except OSError:  # a network file system without locks: there nothing tells two runs from each other
            pass

    def __del__(self) -> None:
        os.close(self.handle)


_HELD: Final[weakref.WeakValueDictionary[tuple[int, int], _Lock]] = weakref.WeakValueDictionary()


def _hold(folder: Path) -> _Lock:
    """The lock of a folder, which runs of this process share.

    Raises:
        LockedError: E801, another process has it.
    """
    facts = folder.stat()
    place = (facts.st_dev, facts.st_ino)
    lock = _HELD.get(place)
    if lock is None:
        _HELD[place] = lock = _Lock(folder)
    return lock


def _check_links(folder: Path) -> None:
    """A run that is gone on with writes and removes files below its folder, and nowhere else.

    Raises:
        UsageError: E131, a link is in it.
    """
    links: list[Path] = []
    links += [Path(entry.path) for entry in walk(folder, links) if entry.is_symlink()]
    if links:
        raise UsageError("E131", f"{show(links[0])} is a link; a run goes on in files of its own alone")


def _same(path: Path, facts: Mapping[str, Any]) -> None:
    try:
        had = read_json(path, root=path.parent)
    except UsageError as error:
        raise UsageError(error.code, f"there is no run to go on with: {error.message}") from None
    now = json.loads(json.dumps(facts))
    if had != now:
        names = ", ".join(sorted(name for name in now if had.get(name) != now[name]))
        raise UsageError("E301", f"the run was begun with other options: {names}")


def _wandb(folder: Path, facts: Mapping[str, Any]) -> Any:
    try:
        import wandb
    except ModuleNotFoundError:
        raise UsageError("E006", "--wandb needs the package: pip install wandb; or leave the option out") from None
    return wandb.init(project="vla-train", name=folder.name, config=dict(facts), dir=str(folder.parent))
