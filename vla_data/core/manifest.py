"""The manifest of a dataset, read in one form whatever version wrote it.

Version 2 has ``provenance``: ``source``, ``recipe`` (the steps) and ``sink`` as JSON, see
`vla_data.core.provenance`; and, where classes of a user's own took part, ``code``, what identifies them. Its
digests are ``recipe_sha256`` (of provenance and versions: what a finished part is told by), ``content_sha256`` and
``sources_sha256``. Version 1 had ``recipe``, with the ``repr`` of each, and the digests under other names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vla_data.core import Json
from vla_data.core.manifest_v1 import provenance_of
from vla_data.core.provenance import agrees, typed
from vla_data.errors import DataError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show

MANIFEST: Final = "manifest.json"
VERSION: Final = 2
_RENAMED: Final = {
    "recipe_digest": "recipe_sha256",
    "content_digest": "content_sha256",
    "source_digest": "sources_sha256",
}


def read_manifest(folder: Path) -> dict[str, Json]:
    """The manifest in a sidecar, in the form of version 2; ``format_version`` is the one of the file.

    Raises:
        DataError: E131, E133, E107 or E105 for a file that can't be read, E141 for what is no manifest or one of a
            later version.
    """
    return _shaped(upgraded(strict_json.loads(read_file(folder / MANIFEST, root=folder)[0], name=MANIFEST)))


def upgraded(facts: Json) -> dict[str, Json]:
    """A manifest of either version in the form of version 2. One of version 1 keeps its ``recipe``.

    Raises:
        DataError: E141 for what is no manifest, or one of a later version.
    """
    if not is_manifest(facts):
        raise DataError("E141", f"{MANIFEST} is not a manifest of vla-data")
    version = facts["format_version"]
    if version == 1:
        out = {_RENAMED.get(name, name): value for name, value in facts.items()}
        return {**out, "provenance": provenance_of(facts.get("recipe"))}
    if version != VERSION:
        raise DataError("E141", f"{MANIFEST} has version {show(version)[:20]}; this program reads 1 and {VERSION}")
    return dict(facts)


def _shaped(facts: dict[str, Json]) -> dict[str, Json]:
    """A manifest in which everything that is said of how it was made is of the kind that it should be.

    Raises:
        DataError: E141.
    """
    made, counts = facts.get("provenance"), facts.get("counts")
    wrong = [name for name in ("counts", "reasons", "versions") if not isinstance(facts.get(name), dict)]
    if not isinstance(facts.get("content_sha256"), str):
        wrong.append("content_sha256")
    if isinstance(counts, dict) and not all(isinstance(n, int | float) for n in counts.values()):
        wrong.append("counts")
    if made is not None or facts["format_version"] != 1:  # of version 1 it is not always understood
        parts = made if isinstance(made, dict) else {}
        kinds = {"source": dict, "recipe": list, "sink": dict}
        if not all(isinstance(parts.get(name), kind) for name, kind in kinds.items()):
            wrong.append("provenance")
    if wrong:
        raise DataError("E141", f"{MANIFEST} is not what vla-data writes ({', '.join(wrong)})")
    return facts


def downgraded(facts: Mapping[str, Json], old: Mapping[str, Json]) -> dict[str, Json]:
    """A manifest as version 1 wrote it, with the recipe of ``old``, a manifest of version 1 that was read."""
    back = {new: name for name, new in _RENAMED.items()}
    out = {back.get(name, name): value for name, value in facts.items() if name != "provenance"}
    return {**out, "format_version": 1, "recipe": old["recipe"], "recipe_digest": old["recipe_sha256"]}


def is_manifest(facts: Any) -> bool:
    """Whether a JSON value looks like a manifest of any version."""
    return (
        isinstance(facts, dict)
        and "format_version" in facts
        and any(name in facts for name in ("recipe_digest", "recipe_sha256"))
    )


def recipe_sha256(manifest: Mapping[str, Json]) -> str:
    """What ``recipe_sha256`` of a manifest that was read must be.

    Raises:
        KeyError: the manifest lacks what it is computed from.
    """
    version = manifest["format_version"]
    key = "recipe" if version == 1 else "provenance"
    facts = {"format": version, key: manifest[key], "versions": manifest["versions"]}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def has_step(manifest: Mapping[str, Json], name: str) -> bool:
    """Whether a step of this name took part, also among those of a merged source.

    Raises:
        DataError: E141 when the manifest does not say.
    """
    try:
        made = manifest["provenance"]
        parts = [made["source"], *made["recipe"]]
        if not all(isinstance(part, Mapping) and isinstance(part["type"], str) for part in parts):
            raise TypeError("no types")
    except (KeyError, TypeError):
        raise DataError("E141", f"{MANIFEST} does not say how it was made") from None
    return any(part["type"] == name for part in typed(parts))


def is_made_by(manifest: Mapping[str, Json], provenance: Json) -> bool:
    """Whether a manifest is of this provenance; options that its version did not have yet are not compared."""
    return agrees(manifest.get("provenance", ()), provenance)
