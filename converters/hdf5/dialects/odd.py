"""Parts of a demo that can't be read, named all at once, with the options that read the demo without them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Final

from vla_data.errors import DataError
from vla_data.safety.text import show

_TRAJECTORY: Final = re.compile(r"traj_[0-9]{1,9}")
_TOLD: Final = 5
_OPTIONS: Final = 40

Odd = tuple[str, str, str]
"""Code, what is wrong, and the path of the part that can't be read."""


def refuse(odd: Sequence[Odd]) -> None:
    """Name all parts of a demo that can't be read, and how it is read without them.

    Raises:
        DataError: by the code of the first; there are some.
    """
    if not odd:
        return
    said = "; ".join(dict.fromkeys(message for _, message, _ in odd[:_TOLD]))
    more = f"; and {len(odd) - _TOLD:,} more" if len(odd) > _TOLD else ""
    raise DataError(odd[0][0], f"{said}{more}{without(*(path for _, _, path in odd))}")


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
