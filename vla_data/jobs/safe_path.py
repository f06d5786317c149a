"""Where started processes import from: what is installed, and never the current folder.

``python -c`` puts the current folder first on the path, so a worker that is started there would import its
``signal.py`` or ``multiprocessing/`` before it runs a line of ours; a folder of somebody's rollouts may hold such
files. Workers and the resource tracker of `multiprocessing` start with ``-P``, and the path that they are given is
the parent's without its entries for the current folder. What the parent itself took from there, such as the
steps of somebody who works at a prompt, is sent to them, see `vla_data.jobs.packed`.
"""

from __future__ import annotations

import multiprocessing.spawn
import multiprocessing.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_LOCK: Final = threading.RLock()


def is_current(entry: object) -> bool:
    """Whether an entry of ``sys.path`` is the current folder, whichever that is, or lies below it."""
    return isinstance(entry, str) and not Path(entry).is_absolute()


@contextmanager
def safe_path() -> Iterator[None]:
    """While it lasts, what `multiprocessing` starts does not import from the current folder."""
    util: Any = multiprocessing.util
    spawn: Any = multiprocessing.spawn
    with _LOCK:
        flags, facts = util._args_from_interpreter_flags, spawn.get_preparation_data
        util._args_from_interpreter_flags = lambda: ["-P", *(flag for flag in flags() if flag != "-P")]
        spawn.get_preparation_data = lambda name: _without_current(facts(name))
        try:
            yield
        finally:
            util._args_from_interpreter_flags, spawn.get_preparation_data = flags, facts


def _without_current(facts: dict[str, Any]) -> dict[str, Any]:
    """What a child is told, its path without the entries that are the current folder here."""
    path = facts.get("sys_path", [])
    if len(path) == len(sys.path):  # `multiprocessing` puts the folder of its own start in the place of ""
        path = [there for there, here in zip(path, sys.path, strict=True) if not is_current(here)]
    return {**facts, "sys_path": [entry for entry in path if not is_current(entry)]}
