"""Where a dataset of ours lies, and which files it has."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Final

from vla_data.core.ledger import FILE
from vla_data.core.manifest import MANIFEST
from vla_data.errors import UsageError
from vla_data.files.folders import folders_below, has_hidden
from vla_data.files.sums import SEAL
from vla_data.formats.tables import SIDECARS
from vla_data.jobs.workspace import is_ours
from vla_data.safety.files import is_own
from vla_data.safety.text import show

SCHEMA: Final = "schema.json"


def find_dataset(path: Path) -> tuple[Path, str]:
    """(root, sidecar) of the dataset at ``path`` or the only one below it, by any file that its sidecar has left.

    Raises:
        UsageError: E001 for several, E003 for none.
    """
    if not path.exists():
        raise UsageError("E003", f"{show(path)} is not there")
    marks = (SEAL, MANIFEST, FILE, SCHEMA)
    for side in SIDECARS:
        if any((path / side / mark).is_file() for mark in marks):
            return path, side
    if (path / SEAL).is_file() or (path / FILE).is_file() or is_ours(path):
        return path, "."
    for depth in ("*", "*/*", "*/*/*"):  # DATA_DIR/<name>/<config>/<version>, from any level of it
        # A deeper match inside of a dataset would be its own sidecar; `vla_data` itself is never a dataset.
        found = {
            (root, side)
            for root in path.glob(depth)
            for side in SIDECARS
            if any((root / side / mark).is_file() for mark in marks)
            and not has_hidden(root.relative_to(path).as_posix())
        }
        if len(found) > 1:
            names = ", ".join(show(root) for root, _ in sorted(found)[:4])
            raise UsageError("E001", f"{show(path)} has several datasets; name one of {names}")
        if found:
            return found.pop()
    what = f"{show(path)} has no SHA256SUMS or manifest, which vla-data writes beside what it makes"
    raise UsageError("E003", f"{what}; of other data, vla-data inspect says what they are")


def walk(root: Path) -> Iterable[tuple[str, int]]:
    """(relative path, bytes) of every regular file that our sources read: a link out of ``root`` is none."""
    for folder, names in folders_below(root):
        for name in names:
            path = Path(folder, name)
            inside = not path.is_symlink() or is_own(Path(os.path.realpath(path)), path, root)
            if inside and path.is_file():
                yield path.relative_to(root).as_posix(), path.stat().st_size


def is_inside(name: str) -> bool:
    """Whether a name of a list is that of a file in the dataset, in the form in which we write it."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and str(path) == name and "\0" not in name


def join(side: str, name: str) -> str:
    """A name of the sidecar, relative to the dataset."""
    return (PurePosixPath(side) / name).as_posix()
