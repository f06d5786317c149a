"""Which format lies at a path, by the files that are there; and of what is not read, what it is and a way on."""

from __future__ import annotations

import difflib
import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Final

from vla_data.errors import UsageError
from vla_data.files.folders import FEATURES, INFO, SNAPSHOTS, is_hidden, linked, version_folders, walk
from vla_data.formats.kinds import KINDS, is_no_data, kind_of, told
from vla_data.formats.made import foreign, left_to
from vla_data.formats.tables import FORMATS
from vla_data.safety.text import show

HDF5: Final = FORMATS["hdf5"].suffixes
ROLLOUT: Final = FORMATS["ppo_rollout"].suffixes

_LEROBOT: Final = "meta/info.json"
_REPLAY: Final = "meta/episode_ends/.zarray"
_ZIPPED: Final = ".zarr.zip"
_DOWNLOADS: Final = ".cache/huggingface/download"
_CALVIN: Final = "ep_start_end_ids.npy"
_RLINF: Final = re.compile(r"rank_\d+_env_\d+_episode_\d+(?:_step_\d+)?_(?:success|fail)\.pkl")
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_MOST: Final = 100_000  # entries that are looked at
_NAMED: Final = 4
_UP: Final = 5  # folders that are looked at above one that is named
_READ: Final = "lerobot, rlds, hdf5, ppo_rollout, rlinf, calvin, zarr"
_MANY: Final = {"hdf5": "hdf5", "ppo_rollout": "rollout"}
"""Format of which a folder has many files -> what these are called here."""

_NO_DATA: Final = "no data"
_DATA: Final = ("hdf5", "rollout", "pickle", "zarr", "bag", "mcap", "shard", "parquet")


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
    kind = kind_of(name)
    if kind is not None:
        raise UsageError("E002", f"{show(path)}: {told(Counter([kind]))}")
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
    found, infos, snapshots = _census(path, links)
    if len(snapshots) > 1:
        names = ", ".join(map(show, sorted(snapshots)[:_NAMED]))
        raise UsageError("E001", f"{show(path)} has several snapshots of a cache; name one of {names}")
    sets = [info.parents[1].relative_to(path).as_posix() for info in infos]
    if sets:
        names = ", ".join(show(path / name) for name in sorted(sets)[:_NAMED]) + (
            f" and {len(sets) - _NAMED} more" if sets[_NAMED:] else ""
        )
        several = "several LeRobot datasets; name one of" if len(sets) > 1 else "a LeRobot dataset below; name it:"
        raise UsageError("E001", f"{show(path)} has {several} {names}")
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
        if any((path / _DOWNLOADS).glob("**/*.incomplete")):
            raise UsageError("E002", f"{show(path)}: {told(Counter(['part']))}")
        only = " but hidden ones" if any(is_hidden(entry.name) for entry in path.iterdir()) else ""
        raise UsageError("E003", f"{show(path)} has no files{only}{linked(links)}")
    if found.total() == found[_NO_DATA]:
        raise UsageError("E003", f"{show(path)} has no data: it has {_endings(path)}{linked(links)}")
    if (what := told(found)) is not None:
        raise UsageError("E002", f"{show(path)}: {what}{linked(links)}")
    raise UsageError(
        "E002",
        f"{show(path)} is not a dataset of a known format ({_READ}){linked(links)}; it has {_endings(path)}",
    )


def _endings(path: Path) -> str:
    """The endings of the files below a folder, or the names of those without, the most frequent ones first."""
    some = itertools.islice(walk(path, []), _MOST)
    counts = Counter(Path(entry.name).suffix.lower() or entry.name for entry in some)
    return ", ".join(f"{show(ending)} ({count:,})" for ending, count in counts.most_common(_NAMED))


def _census(path: Path, links: list[Path]) -> tuple[Counter[str], list[Path], set[Path]]:
    """How many files there are of each kind, every ``meta/info.json``, and the snapshots of a cache of Hugging
    Face that have files; links to folders are added to ``links``.
    """
    found: Counter[str] = Counter()
    infos = []
    snapshots = set()
    for seen, entry in enumerate(walk(path, links)):
        file = Path(entry.path)
        name = file.relative_to(path).as_posix()
        *above, _ = name.split("/")
        if SNAPSHOTS in above[:-1] and entry.is_symlink():
            snapshots.add(path.joinpath(*above[: above.index(SNAPSHOTS) + 2]))
        if name.endswith(f"/{_LEROBOT}"):
            infos.append(file)
        name = name.lower()
        known = {"hdf5": name.endswith(HDF5), "rollout": name.endswith(ROLLOUT), _NO_DATA: is_no_data(name)}
        found[next((kind for kind, fits in known.items() if fits), "") or kind_of(name) or ""] += 1
        if seen >= _MOST:
            break
    return found, infos, snapshots


def beside(path: Path, format: str) -> tuple[str, ...]:
    """What lies among HDF5 files or rollouts and is of another kind of data, a line each; it is not read.

    Args:
        path: a folder; of a file, nothing is said.
        format: that is read.
    """
    if format not in _MANY or not path.is_dir():
        return ()
    found, _, _ = _census(path, [])
    del found[_MANY[format]]
    told = {"hdf5": "HDF5 files", "rollout": "rollouts (.npz, .npy)"}
    return tuple(
        f"left alone beside what is read: {_files(found[kind], 'file')}: {told.get(kind) or KINDS[kind].what}"
        for kind in _DATA
        if found[kind]
    )


def _files(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
