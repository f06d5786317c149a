"""A condition on the columns of the table, such as ``idle < 0.3 and (success == 1 or steps > 20)``.

It is read by a grammar of six rules and never by Python:

    condition := all ("or" all)*          all := one ("and" one)*
    one := "not" one | "(" condition ")" | comparison
    comparison := COLUMN OPERATOR NUMBER
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vla_data.errors import UsageError
from vla_data.measuring.row import COLUMNS, Row
from vla_data.safety.text import show

Verdict = bool | None
"""None: a column that decides is unknown."""

_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
_WORDS: Final = {"true": 1.0, "false": 0.0}
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKEN: Final = re.compile(rf"\s*(?:<=|>=|==|!=|<|>|[()]|[A-Za-z_]\w*|{_NUMBER})", re.ASCII)
_LONGEST: Final = 2_000
_DEEPEST: Final = 50
_LIKE: Final = "as in 'idle < 0.3 and steps >= 20'"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition that was read.

    Attributes:
        text: as it was given.
        columns: that it looks at.
        judge: True, False, or None for a row of which it can't be told.
    """

    text: str
    columns: tuple[str, ...]
    judge: Callable[[Row], Verdict]


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        UsageError: E001 for anything that is none; the message has the nearest names of columns.
    """
    if len(text) > _LONGEST:
        raise UsageError("E001", f"a filter of {len(text):,} characters; at most {_LONGEST:,}")
    reader = _Reader(text)
    judge = reader.condition(0)
    if reader.token is not None:
        raise reader.wrong("the end, and or or")
    return Condition(text, tuple(sorted(reader.columns)), judge)


class _Reader:
    """The grammar, a method a rule; ``token`` is the next one, or None at the end."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self.columns: set[str] = set()
        self.token: str | None = None
        self._next()

    def condition(self, depth: int) -> Callable[[Row], Verdict]:
        parts = [self._all(depth)]
        while self.token == "or":
            self._next()
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else lambda row: _any(part(row) for part in parts)

    def wrong(self, wanted: str) -> UsageError:
        found = "its end" if self.token is None else f"{show(self.token)!r}"
        return UsageError(
            "E001", f"the filter {show(self._text)!r} has {found} where {wanted} is expected, {_LIKE}"
        )

    def _all(self, depth: int) -> Callable[[Row], Verdict]:
        parts = [self._one(depth)]
        while self.token == "and":
            self._next()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda row: _opposite(_any(_opposite(part(row)) for part in parts))

    def _one(self, depth: int) -> Callable[[Row], Verdict]:
        if depth > _DEEPEST:
            raise UsageError("E001", f"the filter is nested more than {_DEEPEST} deep")
        if self.token == "not":
            self._next()
            inner = self._one(depth + 1)
            return lambda row: _opposite(inner(row))
        if self.token == "(":
            self._next()
            inside = self.condition(depth + 1)
            if self.token != ")":
                raise self.wrong("a closing parenthesis")
            self._next()
            return inside
        return self._comparison()

    def _comparison(self) -> Callable[[Row], Verdict]:
        column = self.token
        if column is None or not re.fullmatch(r"[A-Za-z_]\w*", column) or column in ("and", "or", "not"):
            raise self.wrong("a column")
        _check(column)
        self._next()
        compare = _OPERATORS.get(self.token or "")
        if compare is None:
            raise self.wrong(f"one of {' '.join(_OPERATORS)}")
        self._next()
        number = self._number()
        self.columns.add(column)

        def judge(row: Row) -> Verdict:
            value = row.number(column)
            return None if value is None else compare(value, number)

        return judge

    def _number(self) -> float:
        token = self.token
        if token is None or not (token in _WORDS or token[0] in "+-.0123456789"):
            raise self.wrong("a number")
        self._next()
        return _WORDS[token] if token in _WORDS else float(token)

    def _next(self) -> None:
        if not self._text[self._at :].strip():
            self.token, self._at = None, len(self._text)
            return
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            rest = self._text[self._at :].strip()
            raise UsageError(
                "E001", f"the filter has {show(rest[:20])!r}, which is no part of a condition, {_LIKE}"
            )
        self.token, self._at = found[0].strip(), found.end()


def _check(column: str) -> None:
    numbers = [name for name, one in COLUMNS.items() if one.is_number]
    if column in numbers:
        return
    if column in COLUMNS:
        raise UsageError("E001", f"the column {column} is a text; a filter compares numbers: {', '.join(numbers)}")
    close = difflib.get_close_matches(column, numbers, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(numbers)}"
    raise UsageError("E001", f"there is no column {show(column)!r}; {hint}")


def _any(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether one is true; unknown where none is, and one is unknown (Kleene's logic)."""
    found = list(verdicts)
    return True if True in found else None if None in found else False


def _opposite(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict
