"""The options of a run: a preset or a file, then those that were set one by one."""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import MAX_CONFIG, read_file
from vla_data.safety.text import show

Settings = TypeVar("Settings")


def facts_of(config: Any) -> dict[str, Any]:
    """A preset as a table."""
    return {field.name: getattr(config, field.name) for field in fields(config)}


def settings_of(
    kind: type[Settings],
    presets: Mapping[str, Mapping[str, Any]],
    config: str,
    pairs: tuple[str, ...],
    given: Mapping[str, Any],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> Settings:
    """The options of a preset or a file, then those of ``--set``, then those with an option of their own.

    Args:
        kind: a dataclass of options.
        presets: by name.
        config: the name of one, or a TOML or JSON file.
        pairs: each as ``KEY=VALUE``.
        given: options of their own; None is not given.
        elsewhere: options of other programs that are none here -> what to do instead.

    Raises:
        UsageError: E001, one is unknown or makes no sense; E003, there is no such file.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    facts = dict(presets[config]) if config in presets else read_settings(config, presets)
    for pair in pairs:
        name, equal, value = pair.partition("=")
        if not equal:
            raise UsageError("E001", f"--set {show(pair)} is not KEY=VALUE")
        facts[name] = _value(value)
    facts |= {name: value for name, value in given.items() if value is not None}
    for name in sorted(set(facts) - known):
        if name in elsewhere:
            raise UsageError("E001", f"{name} is no option here: {elsewhere[name]}")
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
        raise UsageError("E001", f"there is no option {show(name)}; {hint}")
    try:
        return kind(**facts)
    except (TypeError, ValueError) as error:
        raise UsageError("E001", show(error)) from None


def read_settings(name: str, presets: Mapping[str, Any]) -> dict[str, Any]:
    """The table in a TOML or JSON file.

    Raises:
        UsageError: E001, it is none; E003, there is no such file, nor a preset of this name.
    """
    path = Path(name)
    try:
        data, _ = read_file(path, root=None, max_bytes=MAX_CONFIG)
    except (OSError, DataError):
        raise UsageError(
            "E003", f"config is {show(name)}, which is neither a preset ({', '.join(presets)}) nor a file"
        ) from None
    try:
        facts = strict_json.loads(data, name=path.name) if path.suffix == ".json" else tomllib.loads(data.decode())
    except DataError as error:
        raise UsageError(error.code, error.message) from None
    except (ValueError, RecursionError) as error:  # also of numbers of very many digits
        raise UsageError("E001", f"{show(name)} is not TOML: {show(error)}") from None
    if not isinstance(facts, dict):
        raise UsageError("E001", f"{show(name)} is not a table of options")
    return facts


def _value(text: str) -> Any:
    """A value as JSON has it; anything else is a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
