"""Selections of episodes and frames that training reads without a copy of the data.

- `write_episode_list`: numbers for LeRobot's ``LeRobotDataset(episodes=[...])`` and ``--dataset.episodes``
- `write_keep_ranges`: openpi's ``filter_dict_path``, frames of an RLDS dataset
- `write_masks`: ``mask/<key>`` in an HDF5 file of robomimic's or LIBERO's layout
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vla_data.core import Json, Source
from vla_data.errors import DataError, TargetExistsError, UsageError
from vla_data.jobs.io import machine_errors, write_file
from vla_data.ledger import Record
from vla_data.locate import open_ledger
from vla_data.safety.text import show

Ranges = list[list[int]]

_EPISODE: Final = re.compile(r"episode_([0-9]{6,})")


def write_episode_list(ids: Sequence[str], target: str | Path, *, replace: bool = False) -> dict[str, Json]:
    """Write the numbers of episodes of a LeRobot dataset as a JSON list, in increasing order.

    Args:
        ids: ids of a LeRobot source, ``episode_000012``, also as they are in the ledger of what was made from one.
        target: the file.
        replace: write over an existing file.

    Returns:
        ``episodes`` (how many), ``list``, and ``argument`` for ``lerobot-train``.

    Raises:
        UsageError: E001 for other ids or none.
        TargetExistsError: E411 for a file that exists.
    """
    numbers = episode_numbers(ids)
    write_json(numbers, target, replace=replace)
    return {"episodes": len(numbers), "list": numbers, "argument": lerobot_argument(numbers)}


def lerobot_argument(numbers: Sequence[int]) -> str:
    """The option of LeRobot's programs that selects these episodes."""
    return f"--dataset.episodes=[{','.join(map(str, numbers))}]"


def episode_numbers(ids: Sequence[str]) -> list[int]:
    """LeRobot's ``episode_index`` of each id, in increasing order; see `write_episode_list`."""
    matches = {name: _EPISODE.fullmatch(name) for name in ids}
    if wrong := [name for name, match in matches.items() if match is None]:
        raise UsageError("E001", f"{show(wrong[0])} is no episode of a LeRobot dataset, such as episode_000012")
    if not matches:
        raise UsageError("E001", "an empty list means all episodes to some versions of LeRobot and none to others")
    return sorted(int(match[1]) for match in matches.values() if match is not None)


def write_keep_ranges(
    of: Source | str | Path,
    target: str | Path,
    *,
    only: Collection[str] | None = None,
    replace: bool = False,
) -> dict[str, Json]:
    """Write which frames of each episode are to be sampled, as openpi's DROID loader reads it.

    ``{"<recording_folderpath>--<file_path>": [[start, stop], ...]}``, ``stop`` excluded, positions in the episode
    of the **source** (``filter_dict_path`` in openpi's ``src/openpi/training/droid_rlds_dataset.py``). A frame in
    no range is not sampled, so neither is an episode that is not in the file.

    Args:
        of: a dataset of ours, of which the kept frames of its published episodes are taken; or a source, of which
            all frames are.
        target: the file.
        only: ids of the episodes to take; None: all.
        replace: write over an existing file.

    Returns:
        ``episodes``, ``frames``, ``ranges``; ``keys_from_metadata``, the episodes whose ``episode_metadata`` has
        both names, the others have their id as key; ``not_success``, those whose ``file_path`` (or key) is without
        the word "success", which openpi's loader leaves out itself; ``unreadable``, id -> problem, of a source.

    Raises:
        UsageError: E004 when two episodes have one key, E003 for a folder without a ledger, E402 for no frame.
        TargetExistsError: E411 for a file that exists.
    """
    unreadable: dict[str, str] = {}
    rows = _kept(of, only) if isinstance(of, str | Path) else _everything(of, only, unreadable)
    out: dict[str, Ranges] = {}
    owner: dict[str, str] = {}
    metadata = other = 0
    for name, told, ranges in rows:
        key, path = _key(name, told)
        if owner.setdefault(key, name) != name:
            raise UsageError("E004", f"{show(name)} and {show(owner[key])} are both {show(key)} in the file")
        out[key] = ranges
        metadata += key != name
        other += re.fullmatch(".*success.*", path, re.DOTALL) is None
    frames = sum(stop - start for ranges in out.values() for start, stop in ranges)
    if not frames:
        raise UsageError("E402", "no frame is left")
    write_json(out, target, replace=replace)
    return {
        "episodes": len(out),
        "frames": frames,
        "ranges": sum(map(len, out.values())),
        "keys_from_metadata": metadata,
        "not_success": other,
        "unreadable": unreadable,
    }


def write_masks(
    file: str | Path, masks: Mapping[str, Sequence[str]], target: str | Path, *, replace: bool = False
) -> dict[str, Json]:
    """Write ``mask/<key>`` into a copy of an HDF5 file; see `converters.masks.write_masks`, which needs h5py."""
    try:
        from converters import masks as module
    except ModuleNotFoundError as error:
        if error.name != "h5py":
            raise
        raise UsageError("E006", "h5py is not installed: pip install 'vla-data[hdf5]'") from None
    return module.write_masks(Path(file), masks, Path(target), replace=replace)


def write_json(value: Json, target: str | Path, *, replace: bool = False) -> None:
    """Write a JSON file, whole or not at all.

    Raises:
        TargetExistsError: E411 when it exists and may not be replaced.
    """
    path = Path(target)
    if path.is_dir() or (path.exists() and not replace):
        raise TargetExistsError(
            "E411", f"{show(path)} exists" + ("" if path.is_dir() else "; --replace replaces it")
        )
    with machine_errors("cannot write the selection"):
        write_file(path, json.dumps(value, ensure_ascii=True).encode() + b"\n")


def _kept(path: str | Path, only: Collection[str] | None) -> Iterator[tuple[str, Mapping[str, Any], Ranges]]:
    for record in open_ledger(path).records:
        if record.status == "published" and (only is None or record.id in only):
            yield record.id, record.meta, kept_ranges(record)


def kept_ranges(record: Record) -> Ranges:
    """The source frames that were kept, as ``[start, stop]`` with ``stop`` excluded; neighbours are joined."""
    out: Ranges = []
    for span in record.spans:
        if span.bucket == "kept" and out and out[-1][1] == span.start:
            out[-1][1] = span.stop
        elif span.bucket == "kept":
            out.append([span.start, span.stop])
    return out


def _everything(
    source: Source, only: Collection[str] | None, unreadable: dict[str, str]
) -> Iterator[tuple[str, Mapping[str, Any], Ranges]]:
    for ref in source.episodes():
        if only is not None and ref.id not in only:
            continue
        try:
            episode = source.read(ref)
        except DataError as error:
            if not error.ignore:
                unreadable[ref.id] = str(error)
            continue
        yield ref.id, episode.meta, [[0, len(episode)]] if len(episode) else []


def _key(name: str, meta: Mapping[str, Any]) -> tuple[str, str]:
    """The key that openpi gives an episode, and what it looks for "success" in."""
    told = meta.get("episode_metadata")
    if isinstance(told, Mapping):
        folder, path = told.get("recording_folderpath"), told.get("file_path")
        if isinstance(folder, str) and isinstance(path, str):
            return f"{folder}--{path}", path
    return name, name
