"""The files of an RLDS dataset on disk: where they are, what ``dataset_info.json`` says, and each record's place.

Only names of TFDS's own templates are opened, inside of the root: ``<name>-<split>.<format>-<shard>-of-<shards>``,
``<name>-<split>.<format>-<shard>`` (its SequentialWriter's), or what ``filepathTemplate`` makes of the same parts.
TFRecord is read here; ArrayRecord by its own package (``pip install 'vla-data[array_record]'``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from converters.rlds import tfrecord
from converters.rlds.features import Leaf, leaves
from vla_data.errors import DataError, UsageError
from vla_data.files.folders import FEATURES, INFO, linked, version_folders
from vla_data.installed import install
from vla_data.safety import strict_json
from vla_data.safety.files import no_data, open_regular, read_file, state_of
from vla_data.safety.text import show

TEMPLATE: Final = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
FORMATS: Final = ("array_record", "tfrecord")

MAX_RECORD: Final = 2 << 30
MAX_SHARDS: Final = 100_000
MAX_JSON: Final = 16 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")
_SPLIT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,99}")
_PARTS: Final = ("DATASET", "FILEFORMAT", "NUM_SHARDS", "SHARD_INDEX", "SHARD_X_OF_Y", "SPLIT")
_TEMPLATE: Final = re.compile(rf"(?:[A-Za-z0-9_.=-]|\{{(?:{'|'.join(_PARTS)})\}}){{1,200}}")


class Shard(NamedTuple):
    """One file: its name, its split and how many episodes ``dataset_info.json`` says it has."""

    name: str
    split: str
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """What the two JSON files of a dataset say.

    Attributes:
        folder: the version folder.
        name: of the dataset.
        version: of the dataset, as text.
        format: ``tfrecord`` or ``array_record``.
        shards: by split, in their order.
        leaves: every feature, by path.
    """

    folder: Path
    name: str
    version: str
    format: str
    shards: tuple[Shard, ...]
    leaves: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: shard, offset and bytes (ArrayRecord: position and 0), or why it can't be read."""

    shard: Shard
    offset: int
    length: int
    damage: str = ""


def find(root: Path) -> Path:
    """The only version folder at or below ``root`` (``DATA_DIR/<name>/<config>/<version>``).

    Raises:
        UsageError: E003 when there is none, E001 when there are several.
    """
    found, links = version_folders(root)
    if len(found) > 1:
        names = ", ".join(map(show, found[:4]))
        more = f" and {len(found) - 4:,} more" if len(found) > 4 else ""
        raise UsageError("E001", f"{show(root)} has several datasets; name one of {names}{more}")
    if found:
        return found[0]
    raise UsageError("E003", f"{show(root)} has no {INFO} with a {FEATURES}{linked(links)}")


def load(root: Path, *, splits: Sequence[str] = (), leave_out: Sequence[str] = ()) -> Dataset:
    """What is declared at ``root``, compared with the names of the files that are there.

    Args:
        root: the version folder or a folder above it.
        splits: only these; none: all.
        leave_out: paths of features that are not looked at.

    Raises:
        UsageError: it can't be a dataset that is read here, or files are missing or left over.
    """
    folder = find(root)
    info = read_json(folder, INFO)
    declared = tuple(leaves(read_json(folder, FEATURES), leave_out))
    try:
        name, format = _checked(_NAME, info["name"], "a dataset"), info.get("fileFormat") or "tfrecord"
        if format not in FORMATS:
            raise UsageError("E002", f"file format {show(format)} is not read; {' and '.join(FORMATS)} are")
        shards = [shard for split in info["splits"] for shard in _shards(name, format, split)]
        version = str(info.get("version", ""))
    except KeyError as error:
        raise UsageError(
            "E141", f"{INFO} has no {show(error, escaped=True)}, which TFDS writes when a build is finished"
        ) from None
    except (TypeError, AttributeError, ValueError) as error:
        raise UsageError(
            "E141", f"{INFO} can't be understood ({type(error).__name__} {show(error, escaped=True)[:80]})"
        ) from None
    there = {shard.split for shard in shards}
    if len({shard.name for shard in shards}) != len(shards):
        raise UsageError("E141", f"{INFO} has a split twice")
    if unknown := sorted(set(splits) - there):
        raise UsageError("E003", f"there is no split {show(unknown[0])!r}; known are {', '.join(sorted(there))}")
    _check_left_over(folder, name, format, {shard.name for shard in shards}, info["splits"])
    wanted = tuple(shard for shard in shards if not splits or shard.split in splits)
    if missing := [shard.name for shard in wanted if not (folder / shard.name).is_file()]:
        what = "1 shard is" if len(missing) == 1 else f"{len(missing):,} shards are"
        raise UsageError(
            "E133",
            f"{what} not there, as {show(missing[0])}: the copy or the build did not finish; fetch them, or "
            "name the splits that are whole (--splits)",
        )
    return Dataset(folder=folder, name=name, version=version, format=format, shards=wanted, leaves=declared)


def read_json(folder: Path, name: str) -> Any:
    """A JSON file of the dataset; what is wrong with it concerns the whole dataset."""
    try:
        return strict_json.loads(read_file(folder / name, root=folder, max_bytes=MAX_JSON)[0], name=name)
    except DataError as error:
        raise UsageError(error.code, f"{name}: {error.message}") from None


def _shards(name: str, format: str, split: Mapping[str, Any]) -> Iterator[Shard]:
    part = _checked(_SPLIT, split["name"], "a split")
    lengths = [int(n) for n in split["shardLengths"]]
    if len(lengths) > MAX_SHARDS or any(not 0 <= n <= 1 << 40 for n in lengths):
        raise UsageError("E107", f"{INFO} has {len(lengths):,} shards, or a size that can't be")
    template = _template(split)
    for number, length in enumerate(lengths):
        yield Shard(shard_name(template, name, part, format, number, len(lengths)), part, length)


def _template(split: Mapping[str, Any]) -> str:
    """How the files of a split are named."""
    template = split.get("filepathTemplate") or TEMPLATE
    if not isinstance(template, str) or not _TEMPLATE.fullmatch(template) or ".." in template:
        raise UsageError("E122", f"files are named by {show(template)[:120]}, not by parts of {TEMPLATE}")
    return template


def shard_name(template: str, name: str, split: str, format: str, number: int, count: int) -> str:
    """The file name of a shard, as TFDS makes it of a template (``core/naming.py``, ``ShardedFileTemplate``)."""
    values = {
        "DATASET": name,
        "SPLIT": split,
        "FILEFORMAT": format,
        "SHARD_INDEX": f"{number:05d}",
        "NUM_SHARDS": f"{count:05d}",
        "SHARD_X_OF_Y": f"{number:05d}-of-{count:05d}",
    }
    return re.sub(r"\{([A-Z_]+)\}", lambda part: values[part[1]], template)


def _checked(pattern: re.Pattern[str], value: Any, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value) or ".." in value:
        raise UsageError("E122", f"{what} is named {show(value)[:80]!r}, which is not a plain name")
    return value


def _check_left_over(
    folder: Path, name: str, format: str, known: set[str], splits: Sequence[Mapping[str, Any]]
) -> None:
    """Shards that nobody lists are of an older or half copied dataset: what is meant can't be known."""
    patterns = {rf"{re.escape(name)}-.*\.{format}-\d+(?:-of-\d+)?"}
    for template in {_template(split) for split in splits} - {TEMPLATE}:
        pattern = re.escape(template.replace("{DATASET}", name).replace("{FILEFORMAT}", format))
        pattern = pattern.replace(r"\{SPLIT\}", _SPLIT.pattern).replace(r"\{SHARD_X_OF_Y\}", r"\d+-of-\d+")
        patterns.add(re.sub(r"\\\{(?:SHARD_INDEX|NUM_SHARDS)\\\}", r"\\d+", pattern))
    whole = re.compile("|".join(sorted(patterns)), re.DOTALL)
    extra = [n for n in os.listdir(folder) if whole.fullmatch(n) and n not in known]
    if extra:
        why = f"files of two builds are mixed, or {INFO} is of another"
        raise UsageError("E204", f"{show(min(extra))} is there and {INFO} does not list it: {why}")


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[tuple[int, int]]:
    """(descriptor, size) of a regular file inside of the folder."""
    try:
        handle, facts = open_regular(folder / name, root=folder)
    except DataError as error:
        raise DataError(error.code, f"{show(name)}: {error.message}") from None
    try:
        yield handle, facts[2]
    finally:
        os.close(handle)


def states(dataset: Dataset, more: Sequence[str]) -> Mapping[str, object]:
    """Name of each shard -> what tells it, and the files that say what is in it, from others in their place."""
    about = tuple(state_of(dataset.folder / name) for name in (INFO, FEATURES, *more))
    return {shard.name: (state_of(dataset.folder / shard.name), about) for shard in dataset.shards}


def places(dataset: Dataset) -> list[Place]:
    """Every record, in order. A damaged shard gives as many places as it should have, the last ones with what is
    wrong with them, so that those before the damage can be read.

    Raises:
        UsageError: E204 when a shard has more records than ``dataset_info.json`` says, or can't have as many.
    """
    scan = _scan_array_record if dataset.format == "array_record" else _scan_tfrecord
    return [place for shard in dataset.shards for place in scan(dataset.folder, shard)]


def _scan_tfrecord(folder: Path, shard: Shard) -> list[Place]:
    found: list[Place] = []
    damage = ""
    try:
        with _opened(folder, shard.name) as (handle, size):
            if told := no_data(os.pread(handle, 64, 0)):
                raise UsageError("E105", f"{show(shard.name)} is {told}")
            if shard.length * tfrecord.FRAME > size and shard.length * tfrecord.FRAME > 1 << 20:
                raise UsageError("E204", f"{INFO} says {shard.length:,} records in {shard.name} of {size:,} bytes")
            for offset, length in tfrecord.scan(handle, size, name=show(shard.name), max_bytes=MAX_RECORD):
                found.append(Place(shard, offset, length))
                if len(found) > shard.length:
                    raise UsageError("E204", f"{shard.name} has more records than the {shard.length:,} of {INFO}")
    except DataError as error:
        damage = error.message
    missing = shard.length - len(found)
    damage = damage or f"{shard.name} has {len(found):,} records, not the {shard.length:,} of {INFO}"
    return [*found, *[Place(shard, 0, 0, damage)] * missing]


def _scan_array_record(folder: Path, shard: Shard) -> list[Place]:
    with _opened(folder, shard.name) as (handle, size):
        if told := no_data(os.pread(handle, 64, 0)):
            raise UsageError("E105", f"{show(shard.name)} is {told}")
    count = _array_record(folder, shard.name).num_records()
    if count != shard.length:
        raise UsageError("E204", f"{shard.name} has {count:,} records, not the {shard.length:,} of {INFO}")
    return [Place(shard, number, size // max(count, 1)) for number in range(count)]


def read(dataset: Dataset, place: Place) -> bytes:
    """The bytes of a record, with its checksum verified.

    Raises:
        DataError: E105 when it is damaged, E131 or E133 when the file is gone.
    """
    name = place.shard.name
    if place.damage:
        raise DataError("E105", place.damage)
    if dataset.format == "tfrecord":
        with _opened(dataset.folder, name) as (handle, _):
            return tfrecord.read_at(handle, place.offset, place.length, name=show(name))
    with _opened(dataset.folder, name):
        pass
    try:
        (data,) = _array_record(dataset.folder, name).read([place.offset])
    except (ValueError, RuntimeError, IndexError) as error:
        raise DataError(
            "E105", f"record {place.offset:,} of {show(name)} is damaged ({show(error, escaped=True)[:80]})"
        ) from None
    return bytes(data)


def _array_record(folder: Path, name: str) -> Any:
    try:
        from array_record.python import array_record_module  # type: ignore[import-untyped]
    except ImportError:
        hint = install("array_record")
        raise UsageError("E006", f"array_record is not installed: {hint}") from None
    try:
        return array_record_module.ArrayRecordReader(str((folder / name).resolve()))
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            "E105", f"{show(name)} is not an ArrayRecord file ({show(error, escaped=True)[:80]})"
        ) from None
