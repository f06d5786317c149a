"""The grammar of filters: what it means, what it refuses, and that nothing is run."""

from __future__ import annotations

import pytest

from vla_data.errors import UsageError
from vla_data.measuring.expression import parse
from vla_data.measuring.row import Row

ROW = Row(position=3, episode="e", steps=20, idle=0.25, success=True, outside=0)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("idle < 0.3", True),
        ("idle<.25", False),
        ("idle <= 2.5e-1 and steps >= 20", True),
        ("success == 1", True),
        ("success == true and not outside > 0", True),
        ("steps != 20 or position == 3", True),
        ("steps < 5 or idle < 0.3 and outside == 1", False),  # and binds more tightly
        ("(steps < 5 or idle < 0.3) and outside == 0", True),
        ("not (steps < 5 or idle < 0.3)", False),
        ("outside > -1", True),
        # of what is unknown nothing is said, unless the rest decides
        ("still < 0.5", None),
        ("not still < 0.5", None),
        ("still < 0.5 and idle < 0.3", None),
        ("still < 0.5 and idle > 0.3", False),
        ("still < 0.5 or idle < 0.3", True),
    ],
)
def test_conditions_mean_what_they_say(text: str, verdict: bool | None) -> None:
    assert parse(text).judge(ROW) is verdict


def test_a_condition_names_its_columns() -> None:
    assert parse("idle < 1 or (steps > 2 and idle > 0)").columns == ("idle", "steps")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idel < 0.3", "there is no column 'idel'; did you mean idle"),
        ("zzzz < 1", "there is no column 'zzzz'; there are position, steps"),
        ("task == 1", "the column task is a text; a filter compares numbers: position, steps"),
        ("", "has its end where a column is expected, as in 'idle < 0.3 and steps >= 20'"),
        ("idle", "has its end where one of < <= > >= == != is expected"),
        ("idle < ", "has its end where a number is expected"),
        ("idle < steps", "has 'steps' where a number is expected"),
        ("idle < 0.3 steps > 2", "has 'steps' where the end, and or or is expected"),
        ("(idle < 0.3", "has its end where a closing parenthesis is expected"),
        ("idle = 0.3", "the filter has '= 0.3', which is no part of a condition"),
        ("__import__('os') < 1", "there is no column '__import__'"),
        ("idle < 0.3; steps > 1", "the filter has '; steps > 1', which is no part of a condition"),
        ("idle < ٣", "the filter has '٣', which is no part of a condition"),
        ("(" * 60 + "idle < 1", "the filter is nested more than 50 deep"),
        ("not " * 60 + "idle < 1", "the filter is nested more than 50 deep"),
        ("idle < 1 or " * 300, "a filter of 3,600 characters; at most 2,000"),
    ],
)
def test_anything_else_is_refused_in_a_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert caught.value.code == "E001"
    assert message in caught.value.message
    assert "\n" not in caught.value.message
