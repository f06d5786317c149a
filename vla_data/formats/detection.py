"""Which format lies at a path, by the files that are there; and of what is not read, what it is and a way on."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from vla_data.errors import UsageError
from vla_data.files.folders import FEATURES, INFO, is_litter, linked, version_folders, walk
from vla_data.formats.made import foreign, left_to
from vla_data.formats.tables import FORMATS
from vla_data.safety.text import show

HDF5: Final = FORMATS["hdf5"].suffixes
ROLLOUT: Final = FORMATS["ppo_rollout"].suffixes

_LEROBOT: Final = "meta/info.json"
_REPLAY: Final = "meta/episode_ends/.zarray"
_ZIPPED: Final = ".zarr.zip"
_CALVIN: Final = "ep_start_end_ids.npy"
_RLINF: Final = re.compile(r"rank_\d+_env_\d+_episode_\d+(?:_step_\d+)?_(?:success|fail)\.pkl")
_SHARD: Final = re.compile(r".+\.(?:tfrecords?|array_record)(?:-\d+(?:-of-\d+)?)?")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MOST: Final = 100_000  # entries that are looked at
_NAMED: Final = 4
_UP: Final = 5  # folders that are looked at above one that is named
_READ: Final = "lerobot, rlds, hdf5, ppo_rollout"
_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "pickle": (
        "pickled files (.pkl), which run code when they are opened",
        "those of RLinf are rlinf:PATH, those of ript-vla ript:PATH; record others with "
        "vla_data.RolloutWriter, or re-save them as .npz where you trust them",
    ),
    "zarr": (
        "a zarr store",
        "name the folder or .zarr.zip of a replay buffer (data, meta/episode_ends); others are to be converted to "
        "LeRobot or HDF5 first",
    ),
    "bag": ("a ROS bag", "convert it to LeRobot or HDF5 first"),
    "mcap": ("an MCAP (ROS 2) recording", "convert it to LeRobot or HDF5 first"),
    "video": ("videos alone, which have no actions", "name the folder that holds the actions too"),
    "shard": (
        f"TFRecord shards without {INFO} and {FEATURES}",
        "the TFDS build did not finish, or the two files were not copied: run tfds build again, or copy them",
    ),
    "unfinished": (
        f"an unfinished TFDS build (one of {INFO} and {FEATURES} is missing, or its folder is called incomplete)",
        "run tfds build again",
    ),
    "parquet": (
        f"Parquet files without {_LEROBOT}",
        "of a LeRobot dataset, name the folder that holds meta and data; download what is missing",
    ),
    "archive": ("archives", "unpack them and name the folder"),
    "torch": ("files of PyTorch, which run code when they are opened", "re-save what they hold as .npz or HDF5"),
    "arrow": (
        "Arrow files, as Hugging Face datasets saves them",
        "of a LeRobot dataset, download it as it is published; others are converted to LeRobot or HDF5 first",
    ),
    "lance": ("a Lance dataset", "convert it to LeRobot or HDF5 first"),
    "weights": ("weights of a model", "name the folder of the data"),
    "viewer": ("recordings of a viewer or a camera (.rrd, .svo)", "export them to LeRobot or HDF5 first"),
    "table": ("tables of text (.csv, .jsonl)", "convert them to LeRobot or HDF5 first"),
    "picture": ("pictures alone, which have no actions", "name the folder that holds the actions too"),
    "matlab": ("files of MATLAB (.mat)", "save them as .npz rollouts or HDF5 of a known layout"),
}
_ENDINGS: Final[Mapping[str, str]] = {
    **dict.fromkeys((".pkl", ".pickle", ".p"), "pickle"),
    **dict.fromkeys((".zarr.zip", ".zarray", ".zgroup", ".zattrs", "zarr.json"), "zarr"),
    **dict.fromkeys((".bag", ".db3"), "bag"),
    **dict.fromkeys((".mcap",), "mcap"),
    **dict.fromkeys((".mp4", ".avi", ".mkv", ".mov", ".webm"), "video"),
    **dict.fromkeys((".parquet",), "parquet"),
    **dict.fromkeys((".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst", ".rar", ".7z"), "archive"),
    **dict.fromkeys((".pt", ".pth", ".ckpt"), "torch"),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zst"), "archive"),
    **dict.fromkeys((".arrow", ".feather"), "arrow"),
    **dict.fromkeys((".lance",), "lance"),
    **dict.fromkeys((".safetensors",), "weights"),
    **dict.fromkeys((".rrd", ".svo", ".svo2"), "viewer"),
    **dict.fromkeys((".csv", ".tsv", ".jsonl"), "table"),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), "picture"),
    **dict.fromkeys((".mat",), "matlab"),
}
_MANY: Final = {"hdf5": "hdf5", "ppo_rollout": "rollout"}
"""Format of which a folder has many files -> what these are called here."""

_DATA: Final = ("hdf5", "rollout", "pickle", "zarr", "bag", "mcap", "shard", "parquet")
_FIRST: Final = (
    *("unfinished", "shard", "zarr", "lance", "mcap", "bag", "pickle", "parquet", "arrow", "torch", "matlab"),
    *("archive", "viewer", "video", "weights", "table", "picture"),
)


def detect(path: Path) -> str:
    """The format of what lies at ``path``.

    By ``meta/info.json`` (lerobot), ``dataset_info.json`` with ``features.json``, also in version folders below
    (rlds), the manifest of a sink of another distribution (its format), ``ep_start_end_ids.npy`` (calvin),
    ``meta/episode_ends`` of zarr or the ending ``.zarr.zip`` (zarr), HDF5 files (hdf5), rollout files
    (ppo_rollout), or pickles named as RLinf names its episodes (rlinf), in this order.

    Raises:
        UsageError: E003 when there is nothing, or an empty folder; E001 for several LeRobot datasets, of which
            one must be named; E002 when it is none of these, or HDF5 files and rollouts lie side by side, or for
            the format of a sink that is not installed.
    """
    if not path.exists():
        raise UsageError("E003", f"{show(path)} is not there{_meant(str(path))}")
    if not path.is_dir():
        return _of_file(path)
    if (path / _LEROBOT).is_file():
        return "lerobot"
    if version_folders(path)[0]:
        return "rlds"
    if (made := foreign(path)) is not None:
        name, format = made
        if format is None or FORMATS[format].source is None:
            raise left_to(path, name)
        return format
    if any((path / folder / _CALVIN).is_file() for folder in ("", "training", "validation")):
        return "calvin"
    if (path / _REPLAY).is_file():
        return "zarr"
    return _of_files(path)


def _meant(text: str) -> str:
    """What somebody may have meant by an address at which nothing is."""
    name, colon, rest = text.partition(":")
    if colon and (close := difflib.get_close_matches(name, FORMATS, n=1)):
        return f"; did you mean {close[0]}:{show(rest)}?"
    if text.startswith("~"):
        return "; ~ is for the shell, which leaves it as it is within quotes"
    if _REPOSITORY.fullmatch(text):
        return (
            f"; a dataset of the Hugging Face Hub is hf://datasets/{text}, or fetched by: "
            f"hf download --repo-type dataset {text} --local-dir FOLDER"
        )
    return ""


def _of_file(path: Path) -> str:
    name = path.name.lower()
    for format, endings in (("hdf5", HDF5), ("ppo_rollout", ROLLOUT), ("zarr", _ZIPPED)):
        if name.endswith(endings):
            return format
    _refuse_part(path)
    kind = _kind(name)
    if kind is not None:
        raise UsageError("E002", f"{show(path)}: {_told(kind)}")
    raise UsageError("E002", f"{show(path)} is not a dataset of a known format ({_READ})")


def _refuse_part(path: Path) -> None:
    """Refuse what lies in a dataset, and name the dataset."""
    for folder in list(path.absolute().parents)[:_UP]:
        is_rlds = (folder / INFO).is_file() and (folder / FEATURES).is_file()
        if is_rlds or (folder / _LEROBOT).is_file():
            what = "an RLDS" if is_rlds else "a LeRobot"
            raise UsageError("E002", f"{show(path)} is a part of {what} dataset; name its folder: {show(folder)}")


def _of_files(path: Path) -> str:
    links: list[Path] = []
    found, infos = _census(path, links)
    sets = [info.parents[1].relative_to(path).as_posix() for info in infos]
    if sets:
        names = ", ".join(map(show, sorted(sets)[:_NAMED])) + (
            f" and {len(sets) - _NAMED}" if sets[_NAMED:] else ""
        )
        several = "several LeRobot datasets" if len(sets) > 1 else "a LeRobot dataset in a folder below"
        raise UsageError("E001", f"{show(path)} has {several}; name one of {names}")
    if found["hdf5"] and found["rollout"]:
        raise UsageError(
            "E002",
            f"{show(path)} has {_files(found['hdf5'], 'HDF5 file')} and {_files(found['rollout'], 'rollout')} "
            f"(.npz, "
            ".npy); say which are meant: hdf5:PATH or ppo_rollout:PATH",
        )
    for kind, format in (("hdf5", "hdf5"), ("rollout", "ppo_rollout")):
        if found[kind]:
            return format
    if found["pickle"] and any(_RLINF.fullmatch(entry.name) for entry in itertools.islice(walk(path, []), _MOST)):
        return "rlinf"
    _refuse_part(path)
    if not found.total():
        raise UsageError("E003", f"{show(path)} has no files{linked(links)}")
    for kind in _FIRST:
        if found[kind]:
            raise UsageError("E002", f"{show(path)}: {_told(kind)}{linked(links)}")
    raise UsageError(
        "E002",
        f"{show(path)} is not a dataset of a known format ({_READ}){linked(links)}; it has {_endings(path)}",
    )


def _endings(path: Path) -> str:
    """The endings of the files below a folder, the most frequent ones first."""
    some = itertools.islice(walk(path, []), _MOST)
    counts = Counter(Path(entry.name).suffix.lower() or "no ending" for entry in some)
    return ", ".join(f"{show(ending)} ({count:,})" for ending, count in counts.most_common(_NAMED))


def _census(path: Path, links: list[Path]) -> tuple[Counter[str], list[Path]]:
    """How many files there are of each kind, and every ``meta/info.json``; links to folders are added to
    ``links``.
    """
    found: Counter[str] = Counter()
    infos = []
    for seen, entry in enumerate(walk(path, links)):
        if is_litter(entry.name):
            continue
        file = Path(entry.path)
        name = file.relative_to(path).as_posix()
        if name.endswith(f"/{_LEROBOT}"):
            infos.append(file)
        name = name.lower()
        known = {"hdf5": name.endswith(HDF5), "rollout": name.endswith(ROLLOUT)}
        found[_kind(name) or next((kind for kind, fits in known.items() if fits), "")] += 1
        if seen >= _MOST:
            break
    return found, infos


def beside(path: Path, format: str) -> tuple[str, ...]:
    """What lies among HDF5 files or rollouts and is of another kind of data, a line each; it is not read.

    Args:
        path: a folder; of a file, nothing is said.
        format: that is read.
    """
    if format not in _MANY or not path.is_dir():
        return ()
    found, _ = _census(path, [])
    del found[_MANY[format]]
    told = {"hdf5": "HDF5 files", "rollout": "rollouts (.npz, .npy)"}
    return tuple(
        f"left alone beside what is read: {_files(found[kind], 'file')}: {told.get(kind) or _KINDS[kind][0]}"
        for kind in _DATA
        if found[kind]
    )


def _kind(name: str) -> str | None:
    """What is known of a file of a format that is not read, by its path in small letters."""
    *folders, last = name.split("/")
    for kind in ("zarr", "lance"):
        if any(folder.endswith(f".{kind}") for folder in folders):
            return kind
    if any("incomplete" in folder for folder in folders) or last in (INFO, FEATURES):
        return "unfinished"
    if _SHARD.fullmatch(last):
        return "shard"
    for ending, kind in _ENDINGS.items():
        if last.endswith(ending):
            return kind
    return None


def _told(kind: str) -> str:
    what, way = _KINDS[kind]
    return f"found {what}; {way}" if "which have no actions" in what else f"found {what}, which is not read; {way}"


def _files(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
