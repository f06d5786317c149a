"""The metadata of v2.1 for `converters.lerobot.check`, in the words of v3.0, which it compares with the data."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from vla_data.core import Json
from vla_data.errors import DataError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.verification.audit import Audit

EPISODES: Final = "meta/episodes.jsonl"
STATS: Final = "meta/episodes_stats.jsonl"
TASKS: Final = "meta/tasks.jsonl"
KEYS: Final = ("episode_index", "length", "tasks", "vla_data/source")
"""What v2.1 says of an episode, of what v3.0 does."""

_NUMBER: Final = re.compile(r".*/chunk-(\d{3})(?:/[^/]+)?/episode_(\d{6})\.(?:parquet|mp4)")


def has_stats(name: str, features: Mapping[str, Json]) -> bool:
    """Whether v2.1 has statistics of a feature: lerobot takes what is called an image for one."""
    return "image" not in name or features[name]["dtype"] in ("image", "video")


def number(file: str) -> int:
    """The number of the episode that a file is named after, which its folder must fit; -1 for others."""
    found = _NUMBER.fullmatch(file)
    return int(found[2]) if found and int(found[1]) == int(found[2]) // 1000 else -1


def tasks(audit: Audit) -> list[str] | None:
    """The instructions by number, or None where it is told already that they can't be read."""
    lines = _lines(audit, TASKS)
    if lines is None:
        return None
    if [line.get("task_index") for line in lines] != list(range(len(lines))):
        audit.blame(TASKS, "task_index is not 0, 1, 2, ...")
    return [str(line.get("task")) for line in lines]


def rows(audit: Audit) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file, what it says of the next episode), with statistics under the names of v3.0's columns."""
    lines, stats = _lines(audit, EPISODES) or [], _lines(audit, STATS) or []
    for at, (line, own) in enumerate(itertools.zip_longest(lines, stats)):
        told = own.get("stats") if own is not None else None
        if own is None or own.get("episode_index") != at or not isinstance(told, dict):
            audit.blame(STATS, f"line {at + 1} is not of episode {at}")
        flat = {
            f"stats/{name}/{key}": value
            for name, facts in (told if isinstance(told, dict) else {}).items()
            for key, value in (facts if isinstance(facts, dict) else {}).items()
        }
        if line is not None:
            yield EPISODES, {**line, **flat}


def _lines(audit: Audit, name: str) -> list[dict[str, Any]] | None:
    try:
        data = read_file(audit.root / name, root=audit.root)[0]
        found = [strict_json.loads(line, name=name) for line in data.splitlines() if line.strip()]
    except DataError as error:
        audit.blame(name, f"can't be read ({error.message})")
        return None
    if not all(isinstance(line, dict) for line in found):
        audit.blame(name, "has lines that are no objects")
        return None
    return found
