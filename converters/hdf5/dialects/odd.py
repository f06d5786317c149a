"""Parts of a demo that can't be read, named all at once, with the options that read the demo without them."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from vla_data.errors import DataError
from vla_data.safety.text import show

_TRAJECTORY: Final = re.compile(r"traj_[0-9]{1,9}")
_TOLD: Final = 5
_OPTIONS: Final = 40

Odd = tuple[str, str, str]
"""Code, what is wrong, and the path of the part that can't be read; no path for what no part is to blame for, as a
fact that is missing.
"""


@contextlib.contextmanager
def beside(odd: Sequence[Odd]) -> Iterator[None]:
    """An error says what ``odd`` has by then, as well.

    Raises:
        DataError: by the code of that error.
    """
    try:
        yield
    except DataError as error:
        if not odd:
            raise
        told = DataError(error.code, f"{error.message}; {_said(odd)}")
        told.frames = error.frames
        raise told from None


@contextlib.contextmanager
def gather(odd: list[Odd], path: str) -> Iterator[None]:
    """What is refused of the part at ``path`` is put into ``odd``, so that the next part is looked at, too."""
    try:
        yield
    except DataError as error:
        odd.append((error.code, error.message, path))


def refuse(odd: Sequence[Odd]) -> None:
    """Name all parts of a demo that can't be read, and how it is read without them; what is missing comes first.

    Raises:
        DataError: by the code of the first; there are some.
    """
    if odd:
        raise DataError(min(odd, key=lambda one: bool(one[2]))[0], _said(odd))


def _said(odd: Sequence[Odd]) -> str:
    whole = [message for _, message, path in odd if not path]
    parts = {path: message for _, message, path in reversed(odd) if path}
    messages = list(dict.fromkeys(reversed(parts.values())))
    more = f"; and {len(parts) - _TOLD:,} more" if len(parts) > _TOLD else ""
    said = "; ".join([*dict.fromkeys(whole), *messages[:_TOLD]])
    return f"{said}{more}{without(*reversed(parts))}" if parts else said


def without(*paths: str) -> str:
    """The end of a message on parts of a demo: how to read the demo without them."""
    groups = Counter(below(path).rpartition("/")[0] for path in paths)
    # A camera that is a group of a dataset a frame is left out as one; `obs` itself is the demo.
    wide = {group for group, count in groups.items() if count > _TOLD and "/" in group}
    names = dict.fromkeys(
        group if (group := name.rpartition("/")[0]) in wide else name for name in map(below, paths)
    )
    options = " ".join(f"--leave-out {shlex.quote(show(name))}" for name in list(names)[:_OPTIONS])
    more = f" and {len(names) - _OPTIONS:,} more" if len(names) > _OPTIONS else ""
    return f"; {options}{more} leaves {'it' if len(paths) == 1 else 'them'} out"


def below(path: str) -> str:
    """A path of a file as one below its demo."""
    parts = path.strip("/").split("/")
    return "/".join(parts[2:] if parts[0] == "data" else parts[1:] if _TRAJECTORY.fullmatch(parts[0]) else parts)
