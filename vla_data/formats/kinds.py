"""Files that are not read: what they are, by their names, and a way on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

from vla_data.files.folders import FEATURES, INFO


class Kind(NamedTuple):
    """What some files are, and what somebody can do who has them; ``suffixes`` are the ends of their names."""

    what: str
    way: str
    suffixes: tuple[str, ...] = ()


FIRST: Final = "convert it to LeRobot or HDF5 first"
_NO_ACTIONS: Final = "name the folder that holds the actions too"
KINDS: Final[Mapping[str, Kind]] = {
    "part": Kind(
        "a download that did not finish",
        "fetch it again",
        (".part", ".partial", ".crdownload", ".incomplete", ".aria2", ".gstmp"),
    ),
    "lerobot_v1": Kind(
        "a LeRobot dataset of a format before v2.0 (meta_data, not meta)",
        "lerobot's own scripts convert it, or download the dataset as it is published now",
    ),
    "arrow": Kind(
        "Arrow files, as Hugging Face datasets saves them",
        "of a LeRobot dataset, download it as it is published; others are converted to LeRobot or HDF5 first",
        (".arrow", ".feather"),
    ),
    "unfinished": Kind(
        f"an unfinished TFDS build or copy (one of {INFO} and {FEATURES} is missing, or its folder is called "
        "incomplete)",
        "run tfds build again, or copy all files",
    ),
    "shard": Kind(
        f"TFRecord shards without {INFO} and {FEATURES}",
        "the TFDS build did not finish, or the two files were not copied: run tfds build again, or copy them",
    ),
    "zarr": Kind(
        "a zarr store",
        "name the folder or .zarr.zip of a replay buffer (data, meta/episode_ends); others are to be converted to "
        "LeRobot or HDF5 first",
        (".zarr.zip", ".zarray", ".zgroup", ".zattrs", "zarr.json"),
    ),
    "lance": Kind("a Lance dataset", FIRST, (".lance",)),
    "mcap": Kind("an MCAP (ROS 2) recording", FIRST, (".mcap",)),
    "bag": Kind("a ROS bag", FIRST, (".bag", ".db3")),
    "pickle": Kind(
        "pickled files (.pkl), which run code when they are opened",
        "those of RLinf are rlinf:PATH, those of ript-vla ript:PATH; record others with "
        "vla_data.RolloutWriter, or re-save them as .npz where you trust them",
        (
            ".pkl",
            ".pickle",
            ".p",
            *(f".{name}.{end}" for name in ("pkl", "pickle") for end in ("gz", "bz2", "xz")),
        ),
    ),
    "parquet": Kind(
        "Parquet files without meta/info.json",
        "of a LeRobot dataset, name the folder that holds meta and data; download what is missing",
        (".parquet",),
    ),
    "torch": Kind(
        "files of PyTorch, which run code when they are opened",
        "re-save what they hold as .npz or HDF5",
        (".pt", ".pth", ".ckpt"),
    ),
    "matlab": Kind("files of MATLAB", "save them as .npz rollouts or HDF5 of a known layout", (".mat",)),
    "lmdb": Kind("an LMDB store", FIRST, (".mdb",)),
    "archive": Kind(
        "archives",
        "unpack them and name the folder",
        (".zip", ".tar", ".tgz", ".rar", ".7z", ".gz", ".bz2", ".xz", ".zst"),
    ),
    "viewer": Kind(
        "recordings of a viewer or a camera", "export them to LeRobot or HDF5 first", (".rrd", ".svo", ".svo2")
    ),
    "weights": Kind("weights of a model", "name the folder of the data", (".safetensors",)),
    "log": Kind("logs of a training run", "name the folder of the data"),
    "unitree": Kind(
        "recordings of Unitree's teleoperation (episode_N/data.json)", "unitree_lerobot converts them to LeRobot"
    ),
    "table": Kind(
        "tables of text", "convert them to LeRobot or HDF5 first", (".csv", ".tsv", ".jsonl", ".json", ".yaml")
    ),
    "video": Kind("videos alone, which have no actions", _NO_ACTIONS, (".mp4", ".avi", ".mkv", ".mov", ".webm")),
    "recording": Kind(
        "pictures of a LeRobot recording that ended before its episode was saved",
        "their actions were never written: record it again",
    ),
    "picture": Kind("pictures alone, which have no actions", _NO_ACTIONS, (".png", ".jpg", ".jpeg")),
}
"""Kinds of files that are not read; of several in one folder, the first is told."""

_ENDS: Final[Mapping[str, str]] = {
    suffix: kind for kind, found in KINDS.items() for suffix in found.suffixes if found.suffixes
}
_PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "shard": re.compile(r"(?:.*/)?[^/]+\.(?:tfrecords?|array_record)(?:-\d+(?:-of-\d+)?)?"),
    "log": re.compile(r"(?:.*/)?[^/]*events\.out\.tfevents[^/]*"),
    "lerobot_v1": re.compile(r"(?:.*/)?meta_data/info\.json"),
    "recording": re.compile(r"(?:.*/)?images/[^/]+/episode[_-]\d+/frame[_-]\d+\.(?:png|jpe?g)"),
    "unitree": re.compile(r"(?:.*/)?episode_\d+/data\.json"),
}
_WORDS: Final = re.compile(
    r"\.(?:ds_store|gitattributes|gitignore|directory)|thumbs\.db|desktop\.ini|(?:readme|license|copying)(?:\..*)?"
)


def kind_of(name: str) -> str | None:
    """What is known of a file of a format that is not read, by its path in small letters."""
    *folders, last = name.split("/")
    for kind in ("zarr", "lance"):
        if any(folder.endswith(f".{kind}") for folder in folders):
            return kind
    if any("incomplete" in folder for folder in folders) or last in (INFO, FEATURES):
        return "unfinished"
    for kind, pattern in _PATTERNS.items():
        if pattern.fullmatch(name):
            return kind
    ends = (last, *(last[at:] for at, char in enumerate(last) if char == "."))  # the longest one first
    return next((_ENDS[end] for end in ends if end in _ENDS), None)


def is_no_data(name: str) -> bool:
    """Whether a file is there for people or for a tool, by its path in small letters: of Git, of a file browser,
    or a README.
    """
    *folders, last = name.split("/")
    return bool(_WORDS.fullmatch(last)) or last.startswith("._") or ".git" in folders


def told(found: Counter[str]) -> str | None:
    """What to say of the files of a folder, by how many there are of each kind; None where none is known."""
    for kind, (what, way, suffixes) in KINDS.items():
        if not found[kind]:
            continue
        if kind == "table":
            beside = [word for word in ("video", "picture") if found[word]]
            what = f"{what} ({', '.join(suffixes)}){f' beside {beside[0]}s' if beside else ''}"
        return f"found {what}; {way}" if way == _NO_ACTIONS else f"found {what}: not read; {way}"
    return None
