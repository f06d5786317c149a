"""Sizes and digests of a LeRobot dataset's files, by which its episodes are planned and known again."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from vla_data.safety.files import hash_regular


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    folders = [folder] if folder.is_dir() else []
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


def _facts(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return hash((facts.st_dev, facts.st_ino, facts.st_mtime_ns)), facts.st_size


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return _file_digest(path, *_facts(path))


@functools.lru_cache(maxsize=256)
def _file_digest(path: Path, _mtime: int, _size: int) -> str:
    """Each file is hashed once a process, however many episodes lie in it."""
    return hash_regular(path, root=None)
