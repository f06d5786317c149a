"""The tools that ``info.json`` of lerobot 0.6.1 declares, which the calls in its columns of language name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from vla_data.core import Json

TOOLS: Final = "tools"
"""Key of ``info.json``, and of ``Episode.meta``."""

MAX: Final = 1 << 16  # characters; they are in the ledger's record of every episode


def declared(info: Mapping[str, Any]) -> list[Json]:
    """The tools of a dataset; empty where it has none, or what is no list of tables or is too long to be one."""
    found = info.get(TOOLS)
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        return []
    return found if len(json.dumps(found)) <= MAX else []


def joined(lists: Iterable[Any]) -> list[Json]:
    """The tools of all episodes, each once, in the order in which they come."""
    found: dict[str, Json] = {}
    for tools in lists:
        for tool in tools if isinstance(tools, list) else ():
            found.setdefault(json.dumps(tool, sort_keys=True), tool)
    return [*found.values()]
