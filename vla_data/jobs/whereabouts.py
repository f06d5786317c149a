"""Where the sources of a dataset lay when this machine made it, so that ``vla-data repair`` finds them.

A dataset names no path, since it must be the same on every machine; so this is kept apart, one small file a
dataset under ``$XDG_STATE_HOME/vla-data/sources`` (``~/.local/state`` without it). It may be lost or deleted at
any time, and is never believed: what lies there must still have the digests that the manifest lists.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def remember(manifest: Mapping[str, Any], sources: Sequence[Path]) -> None:
    """Note where the sources of the dataset with this manifest lie; does nothing where that can't be noted."""
    with suppress(OSError, RuntimeError, ValueError):
        file = _file(manifest)
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(f".{os.getpid()}.tmp")
        beside.write_text(json.dumps([str(source.resolve()) for source in sources]))
        os.replace(beside, file)


def recall(manifest: Mapping[str, Any]) -> tuple[Path, ...]:
    """Where they lay; empty when that is not known or one of them is gone."""
    with suppress(OSError, RuntimeError, ValueError, KeyError, TypeError):
        sources = tuple(Path(source) for source in json.loads(_file(manifest).read_text()))
        if all(source.exists() for source in sources):
            return sources
    return ()


def _file(manifest: Mapping[str, Any]) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    key = f"{manifest['recipe_sha256']} {manifest['sources_sha256']}"
    return Path(state, "vla-data/sources", hashlib.sha256(key.encode()).hexdigest()[:32] + ".json")
