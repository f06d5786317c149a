"""What is no source, no step or no sink is refused before any work, in words that say what to write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.paths import TESTS
from vla_data.errors import NotFoundError, UsageError
from vla_data.jobs.rehearsal import rehearse

ROLLOUTS = TESTS / "data/rollouts"


class Step:
    def apply(self, episode: vd.Episode) -> vd.Episode:
        return episode


class Odd:
    def aply(self, episode: vd.Episode) -> vd.Episode:
        return episode


def refused(tmp_path: Path, given: dict[str, Any]) -> str:
    parts = {"source": vd.open_source(ROLLOUTS), "steps": (), "sink": vd.open_sink(tmp_path / "out"), **given}
    with pytest.raises(UsageError) as by_run:
        vd.run(**parts, workers=1)
    with pytest.raises(UsageError) as by_rehearsal:
        rehearse(parts["source"], parts["steps"], parts["sink"])
    assert str(by_run.value) == str(by_rehearsal.value)
    assert list(tmp_path.iterdir()) == []
    return str(by_run.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"source": "rollouts"}, r"source is 'rollouts', an address; vla_data.open_source\('rollouts'\) opens it"),
        ({"source": Path("r")}, r"source is 'r', an address"),
        ({"source": vd.BaseSource}, "source is the class BaseSource, not an object of it"),
        ({"source": vd.BaseSource()}, "object of BaseSource is no source: it has no episodes, fingerprint, read"),
        ({"source": None}, "None is no source"),
        ({"sink": "out"}, r"sink is 'out', an address; vla_data.open_sink\('out'\) opens it"),
        ({"sink": vd.BaseSink()}, "object of BaseSink is no sink: it has no target, encode, assemble, check;"),
        ({"steps": Step()}, r"steps are given in a list: \[Step\(...\)\]"),
        ({"steps": Step}, r"steps are given in a list: \[Step\(\)\]"),
        ({"steps": "smooth"}, "steps is an object of str, not a list"),
        ({"steps": 3}, "steps is an object of int, not a list"),
        ({"steps": [Step(), Step]}, r"step Step is a class; Step\(\) is a step"),
        ({"steps": [Odd()]}, r"object of Odd is no step: it has neither apply\(episode\) nor reject\(episode\)"),
        ({"steps": [np.mean]}, r"is no step: it has neither"),
        ({"steps": [lambda episode: episode]}, r"function .*<lambda> is no step: it has neither"),
        ({"steps": [None]}, "None is no step"),
    ],
)
def test_what_is_none_is_refused_before_any_work(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    told = refused(tmp_path, given)
    assert re.search(message, told), told
    assert told.startswith("E001 usage: ")


def test_steps_may_come_in_any_order_of_things(tmp_path: Path) -> None:
    report = vd.run(
        vd.open_source(ROLLOUTS), (step for step in [Step()]), vd.open_sink(tmp_path / "out"), workers=1
    )
    assert report.counts["published_episodes"] == 3


def test_a_source_of_nothing_says_what_is_not_there(tmp_path: Path) -> None:
    class Gone(vd.BaseSource):
        roots = (tmp_path / "nowhere",)

        def episodes(self) -> list[vd.EpisodeRef]:
            return []

        def fingerprint(self, ref: vd.EpisodeRef) -> str:
            raise AssertionError

        read = schema = fingerprint

    with pytest.raises(NotFoundError, match="nowhere is not there"):
        vd.run(Gone(), (), vd.open_sink(tmp_path / "out"))
