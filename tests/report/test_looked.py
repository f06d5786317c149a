"""The small pictures, the charts and the findings of a report, each against figures done by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.rollouts import MOVE, episode
from vla_data.actions import Convention
from vla_data.core import Feature, Schema
from vla_data.core.findings import Finding
from vla_data.media import images
from vla_data.report import strips
from vla_data.report.charts import histogram
from vla_data.report.looked import Looked
from vla_data.report.troubles import motion_of, troubles


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (480, 640), (160, 120), (161, 7)])
def test_thumbnails_are_small_and_of_mean_colours(size: tuple[int, int]) -> None:
    small = strips.thumbnail(np.full((*size, 3), (10, 20, 30), np.uint8))
    assert max(small.shape[:2]) <= 160
    assert (small == (10, 20, 30)).all()


def test_strips_are_jpegs_from_first_to_last_step() -> None:
    one = episode([MOVE] * 20, [0] * 20, size=(300, 400))
    (strip,) = strips.strips_of(one)
    assert (strip.steps[0], strip.steps[-1], len(strip.pictures)) == (0, 19, strips.PICTURES)
    assert images.header(strip.pictures[3]).encoding == "jpeg"
    assert strip.size == (133, 100)
    assert abs(int(images.decode(strip.pictures[-1]).mean()) - 19) <= 1


def test_pictures_stop_at_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_data.report.looked.MOST_BYTES", 12_000)
    looked = Looked()
    for _ in range(20):
        looked.picture(episode([MOVE] * 8, [0] * 8, size=(100, 100)))
    assert 0 < sum(strip.nbytes for strip in looked.strips) <= 12_000
    assert len(looked.strips) < 20


def commanded(scale: float) -> list[Finding]:
    """Findings of an arm that moves ``scale`` times as far as it is told."""
    random = np.random.default_rng(0)
    looked = Looked()
    action = Convention(
        layout={"translation": (0, 1, 2)},
        kind="delta",
        reference="current_state",
        frame="robot_base",
        translation_unit="m",
    )
    state = Convention(layout=action.layout, kind="absolute", frame="robot_base", translation_unit="m")
    features = {
        name: Feature(dtype="float64", shape=(3,), convention=convention.to_json())
        for name, convention in (("action", action), ("observation.state", state))
    }
    schema = Schema(features=features, fps=10)
    for number in range(3):
        moves = random.normal(0, 0.02, (80, 3))
        places = np.cumsum(np.concatenate([np.zeros((1, 3)), scale * moves[:-1]]), axis=0)
        arrays = {"action": moves, "observation.state": places}
        looked.see(number, 3, schema, replace(episode([MOVE] * 80, [0] * 80), arrays=arrays, frames={}))
    facts = {"fps": 10.0, "kinds": 1, "undeclared": []}
    return troubles("my set", facts, looked, looked.measured(), {}, motion_of(facts, looked))


def test_motion_that_contradicts_the_convention_is_an_error_with_a_command() -> None:
    assert [finding for finding in commanded(1.0) if finding.level == "error"] == []
    found = commanded(10.0)
    assert found[0].level == "error"
    assert found[0].code == "wrong_scale"
    assert found[0].fix == "vla-data convert 'my set' OUT --declare action:KEY=VALUE"
    assert "duplicates" not in {finding.code for finding in found}


def test_bars_are_as_high_as_their_shares() -> None:
    picture = histogram([0.5, 0.25, 0, 0.25], label="a < b")
    assert picture.count("<rect") == 3
    assert 'height="44.0"' in picture
    assert picture.count('height="22.0"') == 2
    assert 'aria-label="a &lt; b"' in picture


def test_numbers_that_are_not_finite_are_counted_and_left_out() -> None:
    from tests.odd_sources import OddSource

    source = OddSource()
    one = source.read(source.episodes()[0])
    action = one.arrays["action"].copy()
    action[2, 3] = np.nan
    looked = Looked()
    looked.see(0, 1, source.schema(one), replace(one, arrays={**one.arrays, "action": action}))
    assert looked.not_finite() == {"action": 1}
    assert len(looked.numbers()["action"]) == len(action) - 1
    assert looked.measured()[0].idle is None
