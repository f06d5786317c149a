"""Which demonstrations HDF5 files hold, found in a process of its own.

Listing is done before any worker exists, and the HDF5 library may crash, hang or take all memory on a damaged
file. So a child with limits looks into the files, one after the other; one that it dies of costs only itself, and
another child goes on. The two speak lines of JSON.

Started as ``python -m converters.hdf5.listing``, this file is the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from converters.hdf5.dialects.aloha import Aloha
from converters.hdf5.dialects.base import Layout
from converters.hdf5.dialects.libero import Libero
from converters.hdf5.dialects.maniskill import ManiSkill
from converters.hdf5.dialects.robomimic import Robomimic
from vla_data.errors import DataError, MachineError, UsageError
from vla_data.names import natural
from vla_data.safety.hdf5 import File, Group
from vla_data.safety.text import show

DIALECTS: Final[tuple[Layout, ...]] = (ManiSkill(), Aloha(), Libero(), Robomimic())
"""In the order in which a file is tried; robomimic's is the most general."""

MAX_NAMES: Final = 64 << 20
MEMORY: Final = 4 << 30
SECONDS: Final = 60.0
_START_SECONDS: Final = 60.0
_STARTS: Final = 3
_SHOWN: Final = 8


class NotADemoFileError(DataError):
    """A healthy HDF5 file of another kind: it is left alone, not quarantined."""

    ignore = True


@dataclass(frozen=True, slots=True)
class Listing:
    """What one file holds: the names of its demonstrations, or why they could not be listed."""

    demos: tuple[str, ...] = ()
    error: DataError | None = None


def layout_of(top: Group, wanted: str) -> Layout:
    """The layout that was asked for, or with "auto" the first that fits.

    Raises:
        NotADemoFileError: E206 when none fits.
    """
    for layout in DIALECTS:
        if layout.name == wanted or (wanted == "auto" and layout.fits(top)):
            return layout
    known = ", ".join(sorted(layout.name for layout in DIALECTS))
    names = sorted(top.names(), key=natural)
    has = ", ".join(map(show, names[:_SHOWN])) + (f" and {len(names) - _SHOWN:,} more" if names[_SHOWN:] else "")
    raise NotADemoFileError(
        "E206",
        f"an HDF5 file, but not one of {known}: its top has {has or 'nothing'}, and not data (robomimic, LIBERO), "
        "traj_0 (ManiSkill) or action and observations (ALOHA); see docs/hdf5.md",
    )


def demos(top: Group, wanted: str, mask: str | None) -> list[str]:
    """Names of the demonstrations of an open file, in natural order.

    Raises:
        UsageError: E007 when the file has no such mask.
        DataError: E207 when there are none, E107 for names that are too long taken together.
    """
    names = layout_of(top, wanted).demos(top)
    if mask is not None:
        masks = top.group("mask") if "mask" in top else None
        if masks is None or mask not in masks:
            known = ", ".join(sorted(map(show, masks.names()), key=natural)) if masks is not None else "none"
            raise UsageError("E007", f"there is no mask {show(mask)!r}; known are {known}")
        listed = masks.table(mask)
        names = list(dict.fromkeys(listed.texts())) if len(listed) else []
    elif not names:
        raise DataError("E207", "the file has no demonstrations")
    if sum(map(len, names)) > MAX_NAMES:
        raise DataError(
            "E107", f"the names of {len(names):,} demonstrations have more than {MAX_NAMES:,} characters"
        )
    return sorted(names, key=natural)


def list_files(
    files: Sequence[Path],
    *,
    root: Path,
    layout: str,
    mask: str | None,
    memory: int = MEMORY,
    seconds: float = SECONDS,
) -> list[Listing]:
    """What each file holds. A file that crashes the child, or takes more than its limits, has a `DataError`.

    Raises:
        UsageError: a file does not have the mask that was asked for.
        MachineError: no child can be started.
    """
    out: list[Listing] = []
    starts = 0
    while len(out) < len(files):
        done = len(out)
        with _child(memory, seconds) as child:
            if child.answer(_START_SECONDS) is None:
                starts += 1
                if starts == _STARTS:
                    raise MachineError("E703", "no process that lists HDF5 files can start")
                continue
            for file in files[done:]:
                child.ask({"file": os.fspath(file), "root": os.fspath(root), "layout": layout, "mask": mask})
                answer = child.answer(seconds)
                if answer is None:
                    out.append(Listing(error=child.death(seconds)))
                    break
                out.append(_listing(answer, file))
    return out


def _listing(answer: dict[str, Any], file: Path) -> Listing:
    if "bug" in answer:
        raise RuntimeError(f"listing {show(file.name)} failed: {answer['bug']}")
    if "usage" in answer:
        code, message = answer["usage"]
        raise UsageError(code, f"{show(file.name)}: {message}")
    if "error" in answer:
        code, message, ignore = answer["error"]
        return Listing(error=(NotADemoFileError if ignore else DataError)(code, message))
    return Listing(tuple(answer["demos"]))


class _Child:
    """The parent's side of the child."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._buffer = process, b""

    def ask(self, question: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise AssertionError("the child was started without a pipe")
        with contextlib.suppress(OSError):  # it is dead, which shows when its answer is read
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """The next line, or None when the child ended or is late."""
        if self._process.stdout is None:
            raise AssertionError("the child was started without a pipe")
        deadline = time.monotonic() + seconds
        handle = self._process.stdout.fileno()
        pieces = [self._buffer]
        while b"\n" not in pieces[-1]:
            ready, _, _ = select.select([handle], [], [], max(0.0, deadline - time.monotonic()))
            pieces.append(os.read(handle, 1 << 16) if ready else b"")
            if not pieces[-1]:
                return None
        self._buffer = b"".join(pieces)
        line, _, self._buffer = self._buffer.partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        return value

    def death(self, seconds: float) -> DataError:
        """What an unanswered question says of the file."""
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return DataError("E503", f"its demonstrations could not be listed in {seconds:g} s")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return DataError("E502", f"the reader crashed while listing its demonstrations ({name})")


@contextlib.contextmanager
def _child(memory: int, seconds: float) -> Iterator[_Child]:
    # What this process can import, that one can too, but nothing from the folder that it happens to start in.
    paths = os.pathsep.join(path for path in sys.path if os.path.isabs(path))  # noqa: PTH117
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "converters.hdf5.listing", str(memory), str(seconds)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths, "HDF5_PLUGIN_PRELOAD": "::"},
        start_new_session=True,  # a Ctrl-C is the parent's
    )
    with process:
        try:
            yield _Child(process)
        finally:
            process.kill()


def _serve(memory: int, seconds: float) -> None:
    """The child's life: a line that it is ready, then a line for each question."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # the parent's own limit may be lower
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing else is printed among the answers

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    say({})
    for line in sys.stdin.buffer:
        question = json.loads(line)
        signal.alarm(int(seconds) + 10)  # also when the parent is gone
        try:
            file = File(Path(question["file"]), root=Path(question["root"]))
            say({"demos": demos(file.top, question["layout"], question["mask"])})
            file.close()
        except DataError as error:
            say({"error": [error.code, error.message, error.ignore]})
        except UsageError as error:
            say({"usage": [error.code, error.message]})
        except MemoryError:
            say({"error": ["E504", "more memory is needed than listing its demonstrations may use", False]})
        except Exception as error:  # a defect of ours, which the parent raises
            say({"bug": f"{type(error).__name__}: {error}"})
        signal.alarm(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), float(sys.argv[2]))
