"""Which episodes a CALVIN dataset has, and in which files their frames are (mees/calvin, ``dataset/README.md``).

    training/ validation/                        the splits, train and val; or one of them is the root
        episode_0358482.npz                      a frame
        ep_start_end_ids.npy                     (N, 2): first and last frame of each recording ("play")
        lang_annotations/auto_lang_ann.npy       windows of frames with an instruction ("language")

Windows overlap, and most frames of the play are in none. The annotations are a pickled dictionary, which is read
by the closed interpreter of `vla_data.safety.unpickle`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_data.core import Json
from vla_data.errors import DataError, UsageError
from vla_data.safety import npy
from vla_data.safety.files import read_file
from vla_data.safety.text import show

ENDS: Final = "ep_start_end_ids.npy"
ANNOTATIONS: Final = "lang_annotations/auto_lang_ann.npy"
SCENES: Final = "scene_info.npy"
SPLITS: Final[Mapping[str, str]] = {"training": "train", "validation": "val"}

MAX_FRAMES: Final = 100_000  # of one episode
_MAX_EPISODES: Final = 1_000_000
_FRAME: Final = re.compile(r"episode_(\d{1,12})\.npz")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The frames of an episode.

    Attributes:
        id: of the episode.
        folder: of the split, relative to the root; "" for the root.
        first: number of its first frame.
        last: number of its last one.
        task: its instruction; None: there is none.
        kind: CALVIN's own name of the task, such as ``turn_off_led``; None for the play.
    """

    id: str
    folder: str
    first: int
    last: int
    task: str | None = None
    kind: str | None = None

    def __len__(self) -> int:
        return self.last - self.first + 1


def folders(root: Path) -> list[str]:
    """The splits that are there.

    Raises:
        UsageError: E003, there is none.
    """
    found = [name for name in SPLITS if (root / name / ENDS).is_file()]
    if not found and (root / ENDS).is_file():
        found = [""]
    if not found:
        raise UsageError("E003", f"{show(root)} has no {ENDS}, nor has training/ or validation/ below it")
    return found


def split_of(root: Path, folder: str) -> str | None:
    """The split of a folder, by its own name where it is the root."""
    return SPLITS.get(folder or root.resolve().name)


def digits(root: Path, folder: str) -> int:
    """Of the numbers in names of frames.

    Raises:
        UsageError: E003, there is no frame.
    """
    with os.scandir(root / folder) as entries:
        for entry in entries:
            if match := _FRAME.fullmatch(entry.name):
                return len(match[1])
    raise UsageError("E003", f"{show(folder or root)} has no frames, episode_<number>.npz")


def has_language(root: Path, folder: str) -> bool:
    """Whether a split has windows with instructions."""
    return language_file(root, folder) is not None


def language_file(root: Path, folder: str) -> str | None:
    """The file of a split's instructions: `ANNOTATIONS`, or one in the only other folder ``lang_...``, as CALVIN's
    configurations name it by the model that embedded the texts; None where there is none.
    """
    if (root / folder / ANNOTATIONS).is_file():
        return ANNOTATIONS
    name = ANNOTATIONS.partition("/")[2]
    found = sorted(path.parent.name for path in (root / folder).glob(f"lang_*/{name}"))
    return f"{found[0]}/{name}" if len(found) == 1 else None


def play(root: Path, folder: str) -> Iterator[Window]:
    """The recordings of a split, whole.

    Raises:
        UsageError: E141, the file does not say where they begin and end.
    """
    ends = _array(_load(root, folder, ENDS), ENDS)
    for number, (first, last) in enumerate(ends):
        yield Window(id=_id(folder, "play", number), folder=folder, first=first, last=last)


def language(root: Path, folder: str) -> Iterator[Window]:
    """The windows of a split that have an instruction.

    Raises:
        UsageError: E141, the annotations are no such dictionary.
    """
    name = language_file(root, folder) or ANNOTATIONS
    found = _load(root, folder, name)
    try:
        texts, kinds = found["language"]["ann"], found["language"]["task"]
        windows = found["info"]["indx"]
    except (KeyError, TypeError, IndexError):
        raise UsageError("E141", f"{name} has no language.ann, language.task and info.indx") from None
    texts, kinds = _texts(texts, "language.ann"), _texts(kinds, "language.task")
    ends = _array(windows, "info.indx")
    if not len(texts) == len(kinds) == len(ends):
        raise UsageError(
            "E141",
            f"{name} has {len(texts):,} instructions, {len(kinds):,} tasks and {len(ends):,} windows",
        )
    for number, ((first, last), text, kind) in enumerate(zip(ends, texts, kinds, strict=True)):
        yield Window(
            id=_id(folder, "language", number), folder=folder, first=first, last=last, task=text, kind=kind
        )


def scenes(root: Path, folder: str) -> Sequence[tuple[int, int, str]]:
    """First and last frame of each scene, and its name; empty where nothing says."""
    if not (root / folder / SCENES).is_file():
        return ()
    found = _load(root, folder, SCENES)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UsageError("E141", f"{SCENES} is no table of scenes")
    names = list(found)
    return [
        (first, last, name) for name, (first, last) in zip(names, _array([*found.values()], SCENES), strict=True)
    ]


def _id(folder: str, kind: str, number: int) -> str:
    return f"{folder}/{kind}_{number:06d}" if folder else f"{kind}_{number:06d}"


def _load(root: Path, folder: str, name: str) -> Any:
    try:
        return npy.loads(read_file(root / folder / name, root=root)[0], name=name)
    except DataError as error:
        raise UsageError(error.code if error.code != "E133" else "E003", error.message) from None


def _texts(items: Any, what: str) -> list[str]:
    listed = items.tolist() if isinstance(items, np.ndarray) else items
    if not isinstance(listed, list | tuple) or not all(isinstance(item, str) for item in listed):
        raise UsageError("E141", f"{ANNOTATIONS}: {what} is no list of texts")
    return list(listed)


def _array(found: Any, what: str) -> list[tuple[int, int]]:
    """Pairs of whole numbers, in order."""
    try:
        listed: Json = found.tolist() if isinstance(found, np.ndarray) else found
        pairs = [tuple(item.tolist() if isinstance(item, np.ndarray) else item) for item in listed]
        numbers = [tuple(int(n) for n in pair if int(n) == n) for pair in pairs]
    except (TypeError, ValueError, OverflowError):
        raise UsageError("E141", f"{what} is no list of pairs of frames") from None
    if len(numbers) > _MAX_EPISODES:
        raise UsageError("E107", f"{what} has {len(numbers):,} entries")
    for pair, told in zip(numbers, pairs, strict=True):
        if len(pair) != 2 or len(told) != 2 or not 0 <= pair[0] <= pair[1] < 10**12:
            raise UsageError("E141", f"{what} has {show(told)[:60]}, no first and last frame")
    return [(pair[0], pair[1]) for pair in numbers]
