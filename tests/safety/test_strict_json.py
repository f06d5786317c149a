"""JSON from strangers: what readers could take differently, what is no number, what means more than it is."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_data.errors import DataError
from vla_data.names import natural
from vla_data.safety import strict_json

_TEXTS = st.text(alphabet='[]{}",\\:a1é\n', max_size=12)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**39), 10**39)
    | st.floats(allow_nan=False, allow_infinity=False)
    # In texts brackets mean nothing.
    | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@given(_VALUES, st.integers(0, 90))
def test_what_is_accepted_is_what_json_says_and_depth_alone_refuses_it(value: Any, levels: int) -> None:
    for number in range(levels):
        value = [value] if number % 2 else {"]]]": value}
    text = json.dumps(value)
    depth, deepest = 0, 0
    for token in _without_texts(text):
        depth += (token in "[{") - (token in "]}")
        deepest = max(deepest, depth)
    if deepest > strict_json.MAX_DEPTH:
        with pytest.raises(DataError, match="nested"):
            strict_json.loads(text.encode(), name="x")
    else:
        assert strict_json.loads(text.encode(), name="x") == value


def _without_texts(text: str) -> str:
    """The text without what stands in quotes, found one character after the other."""
    out, inside, escaped = [], False, False
    for char in text:
        if inside:
            inside, escaped = char != '"' or escaped, char == "\\" and not escaped
        elif char == '"':
            inside = True
        else:
            out.append(char)
    return "".join(out)


@pytest.mark.parametrize(
    "number",
    ["1e999", "-1e999", "1" * 400 + ".0", "1E+400", "NaN", "Infinity", "9" * 41, "-" + "9" * 41, "1" * 5000],
)
def test_numbers_that_no_float_or_index_holds_are_refused(number: str) -> None:
    with pytest.raises(DataError) as caught:
        strict_json.loads(f'{{"a": [{number}]}}'.encode(), name="x")
    assert caught.value.code == "E141"


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "-Infinity"])
def test_where_only_some_values_are_needed_they_are_texts(number: str) -> None:
    (value,) = strict_json.loads(f"[{number}]".encode(), name="x", not_finite=True)
    assert isinstance(value, strict_json.NotFinite)
    assert value == number


@pytest.mark.parametrize("number", ["1e308", "1e-400", "0.1000000000000000055511151231257827", "9" * 40, "-0.0"])
def test_other_numbers_are_read(number: str) -> None:
    assert strict_json.loads(f"[{number}]".encode(), name="x") == json.loads(f"[{number}]")


def test_a_bracket_in_a_text_hides_no_depth() -> None:
    text = '{"a": "' + "]" * 1000 + '", "b": ' + "[" * 900 + "]" * 900 + "}"
    with pytest.raises(DataError, match="nested more than 64 deep"):
        strict_json.loads(text.encode(), name="x")


def test_very_many_lists_are_refused_before_they_are_made() -> None:
    with pytest.raises(DataError, match="lists and objects"):
        strict_json.loads(b"[" + b"[]," * strict_json.MAX_LISTS + b"[]]", name="x")


@pytest.mark.parametrize(
    "text",
    [
        b'"' * 999_999,
        b'\\"' * 500_000,
        b'"\\' * 500_000,
        b'["' + b"\\\\" * 500_000,
        b"[" * 64 + b'"' + b"[" * 10**6,
    ],
)
def test_no_text_takes_more_than_one_pass(text: bytes) -> None:
    start = time.process_time()
    with pytest.raises(DataError):
        strict_json.loads(b"[" * 65 + text, name="x")
    assert time.process_time() - start < 2.0


# -- names ------------------------------------------------------------------------------------------------


@given(st.lists(st.text(alphabet="a0159", max_size=8), max_size=8))
def test_names_are_ordered_by_the_numbers_in_them(names: list[str]) -> None:
    import re

    def by_numbers(name: str) -> Any:
        parts = re.split(r"([0-9]+)", name)
        return ([(0, int(p), "") if i % 2 else (1, 0, p) for i, p in enumerate(parts)], name)

    def cut(name: str) -> Any:
        parts, whole = by_numbers(name)
        return (*parts, (2, 0, whole))

    assert sorted(names, key=natural) == sorted(names, key=cut)


def test_a_name_may_have_more_digits_than_a_number() -> None:
    names = ["x" + "9" * 5000, "x" + "1" + "0" * 5000, "x2"]
    assert sorted(names, key=natural) == [names[2], names[0], names[1]]
