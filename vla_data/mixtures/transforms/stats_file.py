"""Statistics as trainers' files hold them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from vla_data import options as checks
from vla_data.errors import DataError, UsageError
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show
from vla_data.statistics.rules import RULES, Rule

Statistics = Mapping[str, Any]

ACTION: Final = "action"
STATE: Final = "observation.state"

NAMES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "gr00t": (ACTION, STATE),
        "gr00t_n1": (ACTION, STATE),
        "lerobot": (ACTION, STATE),
        "octo": (ACTION, "proprio"),
        "openpi": ("actions", "state"),
        "openvla": (ACTION, "proprio"),
    }
)
"""What each trainer's file calls the action and the state."""


def read(path: Path, rule: str, names: Mapping[str, str | None]) -> dict[str, dict[str, Statistics]]:
    """Dataset -> `ACTION` and `STATE`, as far as it has them -> statistics; ``""`` for a file of one dataset.

    Args:
        path: the file.
        rule: whose trainer's names it has.
        names: for either of the two what the file calls it, or None.

    Raises:
        UsageError: E001 for a rule whose trainer has no statistics, E003, E141 for a file that can't be read, E206
            for one that has no statistics of actions.
    """
    try:
        checks.one_of("rule", rule, tuple(RULES))
    except ValueError as error:
        raise UsageError("E001", f"Normalize: {error}") from None
    trainer = rule.partition(".")[0]
    if trainer not in NAMES:
        raise UsageError("E001", f"{trainer} does not normalize, so it has no statistics to read")
    wanted = {
        feature: names[feature] or usual for feature, usual in zip((ACTION, STATE), NAMES[trainer], strict=True)
    }
    try:
        document = strict_json.loads(read_file(path, root=path.parent)[0], name=show(path.name))
    except DataError as error:
        code = "E003" if error.code == "E133" else error.code
        raise UsageError(code, f"{show(path)}: {error.message}") from None
    if isinstance(document, Mapping) and isinstance(document.get("norm_stats"), Mapping):
        document = document["norm_stats"]
    if not isinstance(document, Mapping):
        document = {}
    flat = _entry(document, wanted)
    found = {"": flat} if flat else {str(name): _entry(one, wanted) for name, one in document.items()}
    found = {name: entry for name, entry in found.items() if entry}
    if not found:
        raise UsageError("E206", f"{show(path)} has no statistics of {wanted[ACTION]!r}, which {trainer}'s have")
    return found


def _entry(document: Any, wanted: Mapping[str, str]) -> dict[str, Statistics]:
    if not isinstance(document, Mapping):
        return {}
    out = {
        feature: document[name]
        for feature, name in wanted.items()
        if isinstance(document.get(name), Mapping) and isinstance(document[name].get("mean"), list)
    }
    if wanted[STATE] == "proprio" and STATE in out and _is_placeholder(out[STATE]):
        del out[STATE]
    return out


def _is_placeholder(entry: Statistics) -> bool:
    """Whether these are the zeros that OpenVLA writes for a dataset without a state."""
    return all(not np.any(np.asarray(entry.get(name, 0.0))) for name in ("min", "max", "mean", "std"))


def check(entry: Statistics, rule: str, what: str) -> None:
    """That a rule can use these statistics.

    Raises:
        UsageError: E206 when one is missing, E203 for another shape, E201 for what is not finite.
    """
    found = RULES[rule]
    if found is None:
        return
    sizes = set()
    for name in _needed(found, entry):
        if entry.get(name) is None:
            raise UsageError("E206", f"the statistics of {what} have no {name}, which {rule} needs")
        try:
            values = np.asarray(entry[name], dtype=np.float64)
        except (TypeError, ValueError):
            values = np.zeros((0, 0))
        if values.ndim != 1:
            raise UsageError("E203", f"the statistics of {what}: {name} is not a list of numbers")
        if not np.isfinite(values).all():
            raise UsageError("E201", f"the statistics of {what}: {name} is not finite")
        sizes.add(len(values))
    if len(sizes) != 1:
        raise UsageError("E203", f"the statistics of {what} have lists of {sorted(sizes)} numbers")


def fit(entry: Statistics, rule: str, width: int, what: str) -> None:
    """That statistics are of vectors of ``width`` elements; openpi's may be longer.

    Raises:
        UsageError: E203.
    """
    found, have = RULES[rule], 0
    have = _width(entry, found) if found is not None else width
    if have != width and not (found is not None and found.partial and have > width):
        raise UsageError("E203", f"the statistics of {what} have {have} elements, the data has {width}")


def width(entry: Statistics, rule: str) -> int:
    """Elements of the vectors that statistics are of."""
    found = RULES[rule]
    return 0 if found is None else _width(entry, found)


def cut(entry: Statistics, size: int) -> Statistics:
    """Statistics of the first elements."""
    return {name: values[:size] if np.ndim(values) else values for name, values in entry.items()}


def _width(entry: Statistics, rule: Rule) -> int:
    return len(entry[rule.low])


def _needed(rule: Rule, entry: Statistics) -> list[str]:
    more = ["min", "max"] if rule.zero_constant else []
    return [rule.low, rule.high, *more, *(["mask"] if rule.masked and entry.get("mask") is not None else [])]
