"""The one schema that the episodes of a dataset share, and what tells several apart."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from vla_data.core import Json, Schema
from vla_data.errors import UsageError
from vla_data.jobs.remarks import one_kind
from vla_data.safety.text import show

_LISTED: Final = 3


def common_schema(episodes: Iterable[tuple[str, str]]) -> Schema:
    """The one schema of all episodes.

    Args:
        episodes: (id, schema as text) of each.

    Raises:
        UsageError: E005 when they have several, with how many episodes have each.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name, schema in episodes:
        groups[schema].append(name)
    if len(groups) > 1:
        largest = sorted(groups.items(), key=lambda group: -len(group[1]))[:_LISTED]
        listed = "; ".join(
            f"{len(ids):,} {'episode' if len(ids) == 1 else 'episodes'} with {_differences(text, groups)} "
            f"(as {show(ids[0])[:60]})"
            for text, ids in largest
        )
        more = f"; and {len(groups) - len(largest)} more kinds" if len(groups) > len(largest) else ""
        raise UsageError("E005", f"the episodes are of {len(groups)} kinds: {listed}{more}; {one_kind(groups)}")
    return Schema.from_text(next(iter(groups)))


def _differences(text: str, groups: Iterable[str]) -> str:
    """What not all schemas share: features of one of them with type and size, conventions, rate and robot."""
    mine = json.loads(text)
    others = [json.loads(other) for other in groups]
    out = []
    for name, feature in mine["features"].items():
        theirs = [other["features"].get(name) for other in others]
        if any(other is None or _type(other) != _type(feature) for other in theirs):
            out.append(f"{name} {_type(feature)}")
        elif any(other["names"] != feature["names"] for other in theirs):
            out.append(f"{name} of elements named {feature['names'] or 'nothing'}")
        convention = feature["convention"]
        found = [other["convention"] for other in theirs if other is not None]
        keys = {key for other in found for key in {*other, *convention} if other.get(key) != convention.get(key)}
        out.extend(f"{name} {key}={convention.get(key, 'undeclared')}" for key in sorted(keys))
    out.extend(f"{key} {mine[key]}" for key in ("fps", "robot") if any(o[key] != mine[key] for o in others))
    more = f" and {len(out) - _LISTED} more" if len(out) > _LISTED else ""
    return ", ".join(text[:80] for text in out[:_LISTED]) + more or "fewer features"


def _type(feature: Mapping[str, Json]) -> str:
    return f"{feature['dtype']}{tuple(feature['shape'])}"
