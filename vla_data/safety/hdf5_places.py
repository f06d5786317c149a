"""Where things are in an HDF5 file: its signature, and what links lead to."""

from __future__ import annotations

import itertools
import os
from typing import Any, Final

import h5py
from h5py import h5l

from vla_data.errors import DataError

MAX_SOFT: Final = 40
"""Soft links on the way to one thing."""
_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_BLOCK: Final = 512


def is_signed(handle: int, size: int) -> bool:
    """Whether HDF5's signature is where it may be in an open file: at the start, or after a user block of 512
    bytes, 1,024, and so on.
    """
    places = itertools.chain([0], (_BLOCK << i for i in itertools.count()))
    return any(os.pread(handle, 8, at) == _SIGNATURE for at in itertools.takewhile(lambda at: at < size, places))


def led_to(group: h5py.Group, name: str, what: str) -> Any:
    """What a link of a group leads to; soft links are followed as HDF5 follows them.

    Args:
        group: of h5py.
        name: of the link.
        what: how messages call it.

    Raises:
        DataError: E111 for a link to another file, or more than 40 on the way; E206 for one that leads to nothing.
    """
    at, todo, followed = group, [name], 0
    while todo:
        step = todo.pop()
        link = at._e(step) if isinstance(at, h5py.Group) else None
        if link is None or not at.id.links.exists(link):
            raise DataError("E206", f"{what} is a link to what is not there")
        kind = at.id.links.get_info(link).type
        if kind == h5l.TYPE_HARD:
            at = at[step]
            continue
        followed += 1
        if kind != h5l.TYPE_SOFT:
            raise DataError(
                "E111",
                f"{what} is a link to another file, which is not followed; copy what it leads to into this one",
            )
        if followed > MAX_SOFT:
            raise DataError("E111", f"{what} is a link that leads in a circle")
        target = at.id.links.get_val(link).decode("utf-8", "surrogateescape")
        if target.startswith("/"):
            at = at.file["/"]
        todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    return at
