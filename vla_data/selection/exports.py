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
from typing import Final

from vla_data.core import EpisodeMeta, Json, Source
from vla_data.core.base import paths_of
from vla_data.core.ledger import Record
from vla_data.core.manifest import MANIFEST, has_step, read_manifest
from vla_data.errors import DataError, TargetExistsError, UsageError
from vla_data.files.result import write_result
from vla_data.formats.sidecar import find_sidecar, open_ledger
from vla_data.formats.tables import FORMATS, load_module
from vla_data.safety.text import show
from vla_data.steps.resample import Resample

Ranges = list[list[int]]

_EPISODE: Final = re.compile(r"episode_([0-9]{6,18})")


def write_episode_list(
    ids: Sequence[str], target: str | Path, *, replace: bool = False, dry_run: bool = False
) -> dict[str, Json]:
    """Write the numbers of episodes of a LeRobot dataset as a JSON list, in increasing order.

    Args:
        ids: ids of a LeRobot source, ``episode_000012``, also as they are in the ledger of what was made from one.
        target: the file.
        replace: write over an existing file.
        dry_run: do all but write.

    Returns:
        ``episodes`` (how many), ``list``, and ``argument`` for ``lerobot-train``.

    Raises:
        UsageError: E001 for other ids or none.
        TargetExistsError: E411 for a file that exists.
    """
    numbers = episode_numbers(ids)
    write_json(numbers, target, replace=replace, dry_run=dry_run)
    return {"episodes": len(numbers), "list": numbers, "argument": lerobot_argument(numbers)}


def lerobot_argument(numbers: Sequence[int]) -> str:
    """The option of LeRobot's programs that selects these episodes."""
    return f"--dataset.episodes=[{','.join(map(str, numbers))}]"


def episode_numbers(ids: Sequence[str]) -> list[int]:
    """LeRobot's ``episode_index`` of each id, in increasing order; see `write_episode_list`."""
    matches = {name: _EPISODE.fullmatch(name) for name in ids}
    if wrong := [name for name, match in matches.items() if match is None]:
        raise UsageError(
            "E001", f"{show(wrong[0])} is not an episode of a LeRobot dataset; those are named like episode_000012"
        )
    if not matches:
        raise UsageError(
            "E001", "the list is empty; some versions of LeRobot take that for all episodes, so select one or more"
        )
    return sorted(int(match[1]) for match in matches.values() if match is not None)


def write_keep_ranges(
    of: Source | str | Path,
    target: str | Path,
    *,
    only: Collection[str] | None = None,
    replace: bool = False,
    dry_run: bool = False,
) -> dict[str, Json]:
    """Write which frames of each episode are to be sampled, as openpi's DROID loader reads it.

    ``{"<recording_folderpath>--<file_path>": [[start, stop], ...]}``, ``stop`` excluded, positions in the episode
    of the **source** (``filter_dict_path`` in openpi's ``src/openpi/training/droid_rlds_dataset.py``). A frame in
    no range is not sampled, so neither is an episode that is not in the file.

    A dataset of ours has the positions of the one it was made from, and no others. So it must have been made
    directly from the dataset that its keys name, and its frames must be frames of that: neither is so of what was
    made from a converted copy, or resampled.

    Args:
        of: a dataset of ours, or a source that reads one, of which the kept frames of its published episodes are
            taken; or another source, of which all frames are.
        target: the file.
        only: ids of the episodes to take, those of a source where ``of`` is one, else the ledger's; None: all.
        replace: write over an existing file.
        dry_run: do all but write.

    Returns:
        ``episodes``, ``frames``, ``ranges``; ``keys_from_metadata``, the episodes whose ``episode_metadata`` has
        both names, the others have their id as key; ``not_success``, those whose ``file_path`` (or key) is without
        the word "success", which openpi's loader leaves out itself; ``unreadable``, id -> problem, of a source.

    Raises:
        UsageError: E004 when two episodes have one key, E003 for a folder without a ledger, E402 for no frame,
            E232 where no positions are known in the dataset that a key names.
        TargetExistsError: E411 for a file that exists.
    """
    unreadable: dict[str, str] = {}
    rows = _kept(of, only) if isinstance(of, str | Path) else _of_source(of, only, unreadable)
    out: dict[str, Ranges] = {}
    owner: dict[str, str] = {}
    metadata = other = 0
    for name, told, ranges in rows:
        key, path = _key(name, told)
        if key != name and told.get("origin") is not None:
            raise UsageError(
                "E232",
                f"{show(name)} was made from a converted copy, so where its frames are in {show(key)} is not "
                "known; select from a dataset that was made directly from the RLDS set",
            )
        if owner.setdefault(key, name) != name:
            raise UsageError("E004", f"{show(name)} and {show(owner[key])} are both {show(key)} in the file")
        out[key] = ranges
        metadata += key != name
        other += re.fullmatch(".*success.*", path, re.DOTALL) is None
    frames = sum(stop - start for ranges in out.values() for start, stop in ranges)
    if not frames:
        raise UsageError("E402", "no frame is left to select")
    write_json(out, target, replace=replace, dry_run=dry_run)
    return {
        "episodes": len(out),
        "frames": frames,
        "ranges": sum(map(len, out.values())),
        "keys_from_metadata": metadata,
        "not_success": other,
        "unreadable": unreadable,
    }


def write_masks(
    file: str | Path,
    masks: Mapping[str, Sequence[str]],
    target: str | Path,
    *,
    replace: bool = False,
    dry_run: bool = False,
) -> dict[str, Json]:
    """Write ``mask/<key>`` into a copy of an HDF5 file; see `converters.hdf5.masks.write_masks`."""
    row = FORMATS["hdf5"]
    module = load_module(str(row.masks), row.extra)
    work = module.check_masks if dry_run else module.write_masks
    written: dict[str, Json] = work(Path(file), masks, Path(target), replace=replace)
    return written


def write_json(value: Json, target: str | Path, *, replace: bool = False, dry_run: bool = False) -> None:
    """Write a JSON file, whole or not at all; in a dry run, only refuse what can't be written.

    Raises:
        TargetExistsError: E411 when it exists and may not be replaced.
    """
    path = Path(target)
    if path.is_dir() or (path.exists() and not replace):
        raise TargetExistsError(
            "E411", f"{show(path)} exists" + ("" if path.is_dir() else "; --replace replaces it")
        )
    if dry_run:
        return
    write_result(path, json.dumps(value, ensure_ascii=True).encode() + b"\n", "the selection", replace=replace)


def _kept(path: str | Path, only: Collection[str] | None) -> Iterator[tuple[str, EpisodeMeta, Ranges]]:
    ledger = open_ledger(path)
    if _resampled(Path(path)):
        raise UsageError(
            "E232",
            f"{show(path)} was resampled, so its steps are not frames of its source; "
            "select from a dataset that was made without --resample",
        )
    for record in ledger.records:
        if record.status == "published" and (only is None or record.id in only):
            yield record.id, record.meta, kept_ranges(record)


def _resampled(path: Path) -> bool:
    """Whether the recipe of a dataset of ours has the step `Resample`, also among those of a merged source."""
    side = find_sidecar(path)
    if side is None or not (side / MANIFEST).is_file():
        return False
    try:
        return has_step(read_manifest(side), Resample.__name__)
    except DataError:
        raise UsageError(
            "E232", f"{show(path)} does not say how it was made, so its frames can't be found in the source"
        ) from None


def kept_ranges(record: Record) -> Ranges:
    """The source frames that were kept, as ``[start, stop]`` with ``stop`` excluded; neighbours are joined."""
    out: Ranges = []
    for span in record.spans:
        if span.bucket == "kept" and out and out[-1][1] == span.start:
            out[-1][1] = span.stop
        elif span.bucket == "kept":
            out.append([span.start, span.stop])
    return out


def _of_source(
    source: Source, only: Collection[str] | None, unreadable: dict[str, str]
) -> Iterator[tuple[str, EpisodeMeta, Ranges]]:
    """What a source reads: of a dataset of ours what its ledger kept, of any other everything."""
    places = paths_of(source)
    side = find_sidecar(places[0]) if len(places) == 1 and places[0].is_dir() else None
    if side is None:
        yield from _everything(source, only, unreadable)
        return
    named = ledger_ids(places[0])
    chosen = [ref.id for ref in source.episodes() if only is None or ref.id in only]
    if unknown := [name for name in chosen if name not in named]:
        raise UsageError("E232", f"{show(unknown[0])} is not in the ledger of {show(places[0])}")
    yield from _kept(places[0], {named[name] for name in chosen})


def ledger_ids(path: str | Path) -> dict[str, str]:
    """Id that a reader of a dataset of ours gives an episode -> its id in the ledger, which is its source's.

    To readers, episodes of LeRobot datasets are ``episode_<output_index>``, those of robomimic's
    ``dataset.hdf5/demo_<output_index>``; those of RLDS datasets have the ledger's ids.
    """
    side = find_sidecar(Path(path))
    form = ""
    if side is not None and (side.parent / "info.json").is_file():
        form = "episode_{:06d}"
    elif side is not None and side.name == "robomimic":
        form = "dataset.hdf5/demo_{}"
    published = [record for record in open_ledger(path).records if record.status == "published"]
    return {form.format(record.output_index) if form else record.id: record.id for record in published}


def _everything(
    source: Source, only: Collection[str] | None, unreadable: dict[str, str]
) -> Iterator[tuple[str, EpisodeMeta, Ranges]]:
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


def _key(name: str, meta: EpisodeMeta) -> tuple[str, str]:
    """The key that openpi gives an episode, and what it looks for "success" in."""
    if (told := meta.episode_metadata) is not None:
        folder, path = told.get("recording_folderpath"), told.get("file_path")
        if isinstance(folder, str) and isinstance(path, str):
            return f"{folder}--{path}", path
    return name, name
