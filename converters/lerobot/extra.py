"""Files that lie in a LeRobot dataset and are not of its format: cards, licences, annotations, advantages.

A conversion from LeRobot to LeRobot keeps them all. Where each goes is decided by what it may speak of:

- ``about`` "dataset": licences, notices, citations, texts (``*.md``, ``*.txt`` in the root) and GR00T's
  ``meta/modality.json`` hold for any selection of episodes and keep their place.
- ``about`` "episodes": anything else may count frames or episodes (``meta/advantages.json``,
  ``sarm_progress.parquet``). It keeps its place only where every episode was published, in order and whole.
- Otherwise, and always for ``README.md``, whose place our own dataset card takes, it goes to
  ``meta/vla_data/original/`` under its own path: kept, and out of the way of readers that would take
  it for current.

Hidden files and folders (``.git``, ``.cache``) and ``images/``, where lerobot leaves temporary files, are not
listed. Links are followed to files inside of the dataset alone; a link elsewhere, or anything that is no regular
file, is not listed. A snapshot in the cache of huggingface_hub is made of links to its blobs, which are its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from vla_data.errors import UsageError
from vla_data.files.folders import is_hidden
from vla_data.safety.files import is_own, read_file
from vla_data.safety.text import portable

MAX_FILES: Final = 10_000
MAX_FILE: Final = 1 << 30
CARD: Final = "README.md"
ORIGINALS: Final = "meta/vla_data/original"

_FORMAT_FOLDERS: Final = ("data", "videos", "images", "meta/episodes", "meta/vla_data")
_FORMAT_FILES: Final = frozenset(
    f"meta/{name}"
    for name in (
        "info.json",
        "stats.json",
        "tasks.parquet",
        "tasks.jsonl",
        "episodes.jsonl",
        "episodes_stats.jsonl",
    )
)
_OF_DATASET: Final = re.compile(
    r"(LICEN[CS]E|NOTICE|COPYING|CITATION)[^/]*|[^/]*\.(md|txt)|meta/modality\.json", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class ExtraFile:
    """A file that is not of the format.

    Attributes:
        path: relative to the dataset, with ``/``.
        size: in bytes.
        about: whether it speaks of the "dataset" as such, or may speak of its "episodes" and their frames.
    """

    path: str
    size: int
    about: Literal["dataset", "episodes"]

    def target(self, *, unchanged: bool) -> str:
        """Where it goes in a dataset made from this one; ``unchanged``: all episodes, in order and whole."""
        keeps = self.path != CARD and (unchanged or self.about == "dataset")
        return self.path if keeps else f"{ORIGINALS}/{self.path}"

    def read(self, root: Path) -> bytes:
        """Its bytes; ``root`` is the dataset.

        Raises:
            DataError: it has become something else since it was listed.
        """
        return read_file(root / self.path, root=root, max_bytes=MAX_FILE)[0]


def extra_files(root: Path) -> Sequence[ExtraFile]:
    """Every such file of the dataset at ``root``, by path. Cheap: the folders of the format are not entered.

    Raises:
        UsageError: E107, there are more than 10,000, or one is over 1 GiB: they are no small matter to copy.
    """
    found = []
    for path, size in _walk(root, "", root):
        if size > MAX_FILE:
            raise UsageError("E107", f"{path} has {size:,} bytes; move it out of the dataset to convert it")
        about: Literal["dataset", "episodes"] = "dataset" if _OF_DATASET.fullmatch(path) else "episodes"
        found.append(ExtraFile(path, size, about))
        if len(found) > MAX_FILES:
            raise UsageError("E107", f"there are more than {MAX_FILES:,} files of others in the dataset")
    return sorted(found, key=lambda file: file.path)


def _walk(folder: Path, below: str, root: Path) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{below}{entry.name}"
            # A name that is no Unicode, or a link out of the dataset, is nobody's to copy.
            if is_hidden(entry.name) or portable(entry.name) != entry.name:
                continue
            if entry.is_dir(follow_symlinks=False):
                if path not in _FORMAT_FOLDERS:
                    yield from _walk(Path(entry.path), f"{path}/", root)
            elif path not in _FORMAT_FILES and _is_inside(Path(entry.path), root):
                yield path, entry.stat().st_size


def _is_inside(path: Path, root: Path) -> bool:
    """Whether a file, or what a link leads to, is a regular file of the dataset."""
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # a link to nowhere, or in a circle
        return False
    return is_own(real, path, root) and real.is_file()
