"""What a source holds of which nobody has declared what only a person can know: its rate, or its instruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

from vla_data.core import Json
from vla_data.errors import UndeclaredError
from vla_data.formats.tables import load_part

_ANY: Final[Mapping[str, Any]] = {"fps": 1.0, "task": "an instruction that nobody declared"}
_WAYS: Final = (("fps",), ("task",), ("fps", "task"))
_CODES: Final = frozenset({"E211", "E231"})
_OF_TIME: Final = ("fps", "fps_audit", "duration_s")


def is_useless(facts: Mapping[str, Json]) -> bool:
    """Whether nothing can be read of what lies there, whatever is declared."""
    return bool(facts["episodes_read"]) and not facts["readable"] and not is_undeclared(facts)


def is_undeclared(facts: Mapping[str, Json]) -> bool:
    """Whether what can't be read lacks nothing but a declaration."""
    codes = {problem["code"] for problem in facts["problem_files"]}
    return bool(codes) and codes <= _CODES


def without_declarations(
    look: Callable[..., dict[str, Json]], format: str, options: Mapping[str, Any]
) -> dict[str, Json]:
    """The facts of `vla_data.report.inspect.survey`, also where nobody has declared the rate or the instruction.

    Both are taken to be anything then, and the answer has neither; what is lacking is in it.

    Args:
        look: gives the facts, with such options as well.
        format: of the source.
        options: that were given.

    Raises:
        UndeclaredError: something else has to be declared.
    """
    known = {name for name in _ANY if options.get(name) is None and _has(format, name)}
    first: dict[str, Json] = {}
    failed: UndeclaredError | None = None
    try:
        first = look()
    except UndeclaredError as error:
        failed, lacking = error, {"undeclared": [error.message]}
    else:
        if first["readable"] or not is_undeclared(first):
            return first
        lacking = {key: first[key] for key in ("readable", "problems", "problem_files")}
    for names in _WAYS:
        if not known.issuperset(names):
            continue
        try:
            found = look(**{name: _ANY[name] for name in names})
        except UndeclaredError:
            continue
        if found["readable"]:
            return _told(found, lacking, names)
    if failed is not None:
        raise failed
    return first


def _told(found: Mapping[str, Json], lacking: Mapping[str, Json], names: tuple[str, ...]) -> dict[str, Json]:
    """Facts without what follows from those that were taken to be anything, and with what is lacking."""
    out = {**found, **lacking}
    undeclared = [*lacking.get("undeclared", ()), *found["undeclared"]]
    said = " ".join([*undeclared, *(problem["message"] for problem in out["problem_files"])])
    if "fps" in names:
        out = {key: value for key, value in out.items() if key not in _OF_TIME}
        for feature in out["features"].values():
            feature["convention"].pop("control_rate", None)
        undeclared += [] if "--fps" in said else ["steps per second (--fps NUMBER)"]
    if "task" in names:
        texts = {key: count for key, count in out.get("instruction", {}).items() if key != _ANY["task"]}
        out = {key: value for key, value in out.items() if key != "instruction"}
        out |= {"instruction": texts} if texts else {}
    return {**out, "undeclared": undeclared}


def _has(format: str, option: str) -> bool:
    """Whether the sources of a format have such an option."""
    cls = load_part(format, "source")
    return is_dataclass(cls) and option in {field.name for field in fields(cls)}
