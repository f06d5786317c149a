"""What lies in a folder that somebody names: its files, the links that are not followed, and TFDS's version
folders.

Links to folders are never followed: what they lead to lies outside of what was named, and may be the folder
itself. Who lists a folder says so, since what is behind a link is missing then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from vla_data.errors import DataError
from vla_data.safety.files import open_regular
from vla_data.safety.text import show

INFO: Final = "dataset_info.json"
FEATURES: Final = "features.json"
BLOBS: Final = "blobs"
SNAPSHOTS: Final = "snapshots"
"""Folders in a cache of Hugging Face: the files by their digests, and links to them by their names."""
MAX_FOLDERS: Final = 10_000
_NAMED: Final = 4
_ZARR: Final = (".zarray", ".zattrs", ".zgroup", ".zmetadata")  # which are data, of version 2
_VERSIONS_BELOW: Final = 3


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no data but a tool's, by its name: of Git, Jupyter, a cache, a file browser
    (``.git``, ``.ipynb_checkpoints``, ``.cache``, ``._x``, ``.DS_Store``), or of an archive that macOS made
    (``__MACOSX``). No source takes such for data; what somebody names is read, whatever it is called.
    """
    return (name.startswith(".") and name not in _ZARR) or name == "__MACOSX"


def has_hidden(path: str) -> bool:
    """Whether a relative path with ``/`` is of something hidden, or of what lies in it."""
    return any(map(is_hidden, path.split("/")))


def walk(folder: Path, links: list[Path]) -> Iterator[os.DirEntry[str]]:
    """Every entry below ``folder`` that is no folder. Links to folders are not followed but added to ``links``.

    What `is_hidden` is left out.

    In a cache of Hugging Face each file is there twice, under its name in ``snapshots`` and under its digest in
    ``blobs``; the latter are left out.
    """
    todo = [folder]
    while todo:
        here = todo.pop()
        with os.scandir(here) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if entry.name != BLOBS or not (here / SNAPSHOTS).is_dir():
                        todo.append(Path(entry.path))
                elif entry.is_symlink() and Path(entry.path).is_dir():  # also of a loop of links, which is none
                    links.append(Path(entry.path))
                else:
                    yield entry


def folders_below(
    root: Path, onerror: Callable[[OSError], object] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """``root`` and every folder below it, each with the names of its files, a folder before those in it.

    As `os.walk`, which in Python 3.11 calls itself for each level: how deep folders lie is a stranger's choice.

    Args:
        root: the folder.
        onerror: called with what a folder can't be listed for; None: it is left out.
    """
    todo = [os.fspath(root)]
    while todo:
        folder = todo.pop()
        files: list[str] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.is_dir():
                        files.append(entry.name)
                    elif not entry.is_symlink():
                        todo.append(entry.path)
        except OSError as error:
            if onerror is not None:
                onerror(error)
            continue
        yield folder, files


APPLE_DOUBLE: Final = b"\x00\x05\x16\x07"
LINKED_FOLDER: Final = (
    "a link to a folder, which is not followed; name what it leads to, or copy it there (cp -rL)"
)


def is_apple_double(path: Path) -> bool:
    """Whether a file begins as an AppleDouble file (RFC 1740), which holds attributes of another one."""
    return begins_with(path, APPLE_DOUBLE)


def begins_with(path: Path, signature: bytes) -> bool:
    """Whether a file can be opened and begins with these bytes."""
    try:
        handle, _ = open_regular(path, root=path.parent)
    except DataError:
        return False
    with os.fdopen(handle, "rb") as file:
        return file.read(len(signature)) == signature


def is_litter(name: str) -> bool:
    """Whether a file is what macOS leaves beside each file that it copies to a disk of another kind
    (``._name``).
    """
    return name.startswith("._")


def linked(links: Sequence[Path]) -> str:
    """What to say of links to folders, or nothing where there are none."""
    if not links:
        return ""
    names = ", ".join(show(path.name) for path in sorted(links)[:_NAMED])
    more = f" and {len(links) - _NAMED:,} more" if len(links) > _NAMED else ""
    return f"; links to folders are not followed: {names}{more} (name what they lead to, or copy it: cp -rL)"


def version_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """TFDS's version folders at ``root`` or up to three levels below: ``DATA_DIR/<name>/<config>/<version>``.

    Returns:
        The folders with both JSON files, of the first level that has any, in order; and links that were not
        followed.
    """
    level, links = [root], list[Path]()
    for _ in range(_VERSIONS_BELOW + 1):
        found = [path for path in level if (path / INFO).is_file() and (path / FEATURES).is_file()]
        if found:
            return found, links
        below: list[Path] = []
        for path in level:
            try:
                with os.scandir(path) as entries:
                    for entry in entries:
                        if is_hidden(entry.name):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            below.append(Path(entry.path))
                        elif entry.is_symlink() and Path(entry.path).is_dir():
                            links.append(Path(entry.path))
            except OSError:
                continue
        level = sorted(below)
        if len(level) > MAX_FOLDERS:
            break
    return [], links
