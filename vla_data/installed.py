"""Where this package is installed from, so that a message can say what to type, and what hides parts of it."""

from __future__ import annotations

import importlib.util
import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Final

from vla_data.errors import MissingExtraError

PACKAGES: Final = ("builders", "converters", "training_adapters", "vla_data")
"""What an installation of this project brings."""


def install(extra: str) -> str:
    """The command that installs an extra, from where this package came: an index, a checkout or a repository."""
    return f"pip install {_requirement(extra)}"


def missing(package: str, extra: str) -> MissingExtraError:
    """That a package is not installed, and what to type."""
    return MissingExtraError("E006", f"{package} is not installed: {install(extra)}")


def hidden(module: str) -> str | None:
    """What hides one of our packages, if a folder or file of the same name is found before it.

    Args:
        module: of ours, that can't be imported.

    Returns:
        Half a sentence that names both places, or None where it is our own package that is found.
    """
    package = module.partition(".")[0]
    own = Path(__file__).resolve().parents[1] / package
    spec = importlib.util.find_spec(package) if package in PACKAGES else None
    if spec is None:
        return None
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    found = [Path(place).resolve() for place in places]
    if any(place == own or own in place.parents for place in found) or not found:
        return None
    return f"{found[0]} hides {own}, which is a part of vla-data; rename it, or run from another folder"


def _requirement(extra: str) -> str:
    try:
        told = metadata.distribution("vla-data").read_text("direct_url.json")
        facts = json.loads(told) if told else {}
    except (metadata.PackageNotFoundError, ValueError):
        facts = {}
    url = str(facts.get("url", ""))
    if "vcs_info" in facts:
        return shlex.quote(f"vla-data[{extra}] @ {facts['vcs_info'].get('vcs', 'git')}+{url}")
    if url.startswith("file://") and "dir_info" in facts:
        editable = "--editable " if facts["dir_info"].get("editable") else ""
        return editable + shlex.quote(f"{url.removeprefix('file://')}[{extra}]")
    return shlex.quote(f"vla-data[{extra}]")
