"""Order of names, the same on every machine and in every locale."""

from __future__ import annotations

import hashlib
import re
from typing import Final

_NUMBER: Final = re.compile(r"([0-9]+)")
_SHORT: Final = 2  # so short a name may be a word


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts ``demo_2`` before ``demo_10``; equal only for equal names.

    Numbers are compared by their digits, since a stranger's name may have more than Python makes a number of.
    """
    parts = (part.lstrip("0") if i % 2 else part for i, part in enumerate(_NUMBER.split(name)))
    keys = tuple((0, len(part), part) if i % 2 else (1, 0, part) for i, part in enumerate(parts))
    return (*keys, (2, 0, name))


def unit_hash(name: str, *, salt: str) -> float:
    """A number in [0, 1) that depends on ``name`` and ``salt`` alone (SHA-256, first 53 bits)."""
    digest = hashlib.sha256(f"{salt}\0{name}".encode("utf-8", "surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def nameless(text: str, name: str) -> str:
    """What is said of an episode with ``*`` for its own name and the parts of it, so that what is said alike of
    several is one text.

    >>> nameless("data/demo_3/actions is missing", "a.hdf5/demo_3")
    'data/*/actions is missing'
    """
    stems = {stem for part in name.split("/") for stem in (part, part.rpartition(".")[0]) if len(stem) > _SHORT}
    for part in sorted({name, *stems}, key=len, reverse=True):
        text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(part)}(?![A-Za-z0-9])", "*", text)
    return text
