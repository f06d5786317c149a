"""What is at a target before a run works, so that what came there meanwhile is not taken for it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vla_data.errors import MachineError, TargetExistsError
from vla_data.formats.tables import SIDECARS
from vla_data.safety.text import show

_MANIFEST: Final = "manifest.json"
_DEEPEST: Final = 64
"""Folders within one another that can still be removed whole; datasets of ours have 6."""
_Facts = tuple[int, int, int, int]


@dataclass(frozen=True)
class Seen:
    """What was at a target.

    Attributes:
        folder: device and inode of the folder that was there; None: nothing was.
        entries: name, relative -> what tells each entry below it from another in its place.
    """

    folder: tuple[int, int] | None
    entries: Mapping[str, _Facts]

    @classmethod
    def at(cls, target: Path) -> Seen:
        """What is there now. Links are not followed.

        Raises:
            TargetExistsError: E411, another dataset is inside of it, which would go with it, or folders are too
                deep to be removed.
            MachineError: E703, something is mounted inside of it.
        """
        try:
            facts = target.lstat()
        except FileNotFoundError:
            return cls(None, {})
        folder = (facts.st_dev, facts.st_ino)
        entries = dict(_walk(target, facts.st_dev))
        check_inside(target, entries)
        return cls(folder, entries)

    def difference(self, folder: Path) -> str | None:
        """What is not as it was, in words; None when all is. ``folder`` is where it lies now."""
        try:
            facts = folder.lstat()
        except FileNotFoundError:
            return None if self.folder is None else "it is gone"
        if (facts.st_dev, facts.st_ino) != self.folder:
            return "it came into being" if self.folder is None else "it is another one"
        now = dict(_walk(folder, facts.st_dev))
        for name in sorted(now.keys() | self.entries.keys()):
            if now.get(name) != self.entries.get(name):
                how = "is new" if name not in self.entries else "is gone" if name not in now else "has changed"
                return f"{show(name)} in it {how}"
        return None


def check_inside(target: object, names: Iterable[str]) -> None:
    """Refuse to replace a dataset that has another one inside.

    Args:
        target: where it is.
        names: of everything in it, relative.

    Raises:
        TargetExistsError: E411.
    """
    for name in names:
        place, _, last = name.rpartition("/")
        nested = next((side for side in SIDECARS if place.endswith(f"/{side}")), None)
        if last == _MANIFEST and nested and place not in SIDECARS:
            inner = show(place.removesuffix(f"/{nested}"))
            raise TargetExistsError("E411", f"{show(target)} has another dataset inside ({inner}); move that away")


def _walk(folder: Path, device: int) -> Iterator[tuple[str, _Facts]]:
    todo = [(folder, "", 0)]
    while todo:
        place, below, depth = todo.pop()
        if depth > _DEEPEST:
            raise TargetExistsError(
                "E411", f"{show(folder)} has folders nested more than {_DEEPEST} deep; move them away"
            )
        with os.scandir(place) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                name = below + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if facts.st_dev != device:
                        raise MachineError(
                            "E703", f"{show(entry.path)} is a mount point, and its folder can't be replaced"
                        )
                    yield name, (facts.st_mode, facts.st_ino, 0, 0)
                    todo.append((Path(entry.path), f"{name}/", depth + 1))
                else:
                    yield name, (facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns)
