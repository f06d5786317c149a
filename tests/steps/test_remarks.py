"""Thresholds that are meant for steps of another length are told, with the values of the same speed."""

from __future__ import annotations

import re

import pytest

from vla_data.core import Feature, Schema
from vla_data.steps import SmallActions


@pytest.mark.parametrize("fps", [1, 10, 15, 20, 30, 50])
def test_default_thresholds_at_another_rate_name_those_of_the_same_speed(fps: float) -> None:
    schema = Schema(features={"action": Feature(dtype="float32", shape=(7,))}, fps=fps)
    (line,) = SmallActions().remarks(schema)
    found = re.search(r"--pos-thresh (\S+) --rot-thresh (\S+) is", line)
    assert found is not None
    assert float(found[1]) * fps == pytest.approx(0.01 * 5, rel=1e-2)
    assert float(found[2]) * fps == pytest.approx(0.06 * 5, rel=1e-2)


def test_thresholds_that_were_chosen_and_the_usual_rate_are_not_told() -> None:
    for fps, step in ((5, SmallActions()), (20, SmallActions(pos=0.0025)), (20, SmallActions(pos=None, rot=None))):
        assert step.remarks(Schema(features={}, fps=fps)) == []
