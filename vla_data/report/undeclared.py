"""What a source holds of which nobody has declared what only a person can know: its rate, or its instruction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from vla_data.core import Json
from vla_data.core.unneeded import FACTS
from vla_data.errors import UndeclaredError

_CODES: Final = frozenset({"E211", "E231"})
_OF_TIME: Final = ("fps", "fps_audit", "duration_s")


def is_useless(facts: Mapping[str, Json]) -> bool:
    """Whether nothing can be read of what lies there, whatever is declared."""
    return bool(facts["episodes_read"]) and not facts["readable"] and not is_undeclared(facts)


def is_undeclared(facts: Mapping[str, Json]) -> bool:
    """Whether what can't be read lacks nothing but a declaration."""
    codes = {problem["code"] for problem in facts["problem_files"]}
    return bool(codes) and codes <= _CODES


def without_declarations(look: Callable[..., dict[str, Json]]) -> dict[str, Json]:
    """The facts of `vla_data.report.inspect.survey`, also where nobody has declared what files don't say: rate,
    instruction, and what images and their times mean. The answer has none of these then; what is lacking is in it.

    Args:
        look: gives the facts; with ``unneeded``, without asking for those of `vla_data.core.unneeded.FACTS`.

    Raises:
        UndeclaredError: something else has to be declared.
    """
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
    with contextlib.suppress(UndeclaredError):
        found = look(unneeded=FACTS)
        if found["readable"]:
            return _told(found, lacking)
    if failed is not None:
        raise failed
    return first


def _told(found: Mapping[str, Json], lacking: Mapping[str, Json]) -> dict[str, Json]:
    """Facts without those that nobody knows, and with what is lacking."""
    out = {**found, **lacking}
    undeclared = [*lacking.get("undeclared", ()), *found["undeclared"]]
    said = " ".join([*undeclared, *(problem["message"] for problem in out["problem_files"])])
    if not found.get("fps"):
        out = {key: value for key, value in out.items() if key not in _OF_TIME}
        undeclared += [] if "--fps" in said else ["steps per second (--fps NUMBER)"]
    texts = {key: count for key, count in out.pop("instruction", {}).items() if key}
    return {**out, **({"instruction": texts} if texts else {}), "undeclared": undeclared}
