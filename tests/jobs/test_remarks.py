"""What a run that publishes nothing says."""

from __future__ import annotations

from pathlib import Path

import pytest

import vla_data as vd
from tests.rollouts import MOVE, rollout, save
from vla_data.core.ledger import Record
from vla_data.errors import RefusedError
from vla_data.jobs.remarks import nothing_left, tell


def test_episodes_that_end_at_their_first_success_are_told_the_rule_that_keeps_them(tmp_path: Path) -> None:
    for seed in range(2):
        data = rollout(actions=[MOVE] * 8, success=[False] * 7 + [True], size=(8, 8), seed=seed)
        save(tmp_path / "in", f"e{seed}.npz", data)
    source = vd.open_source(tmp_path / "in")
    with pytest.raises(RefusedError, match=r"no_success 2; .*--min-success-steps 1 is the rule"):
        vd.run(source, vd.recipes.ppo_sft(), vd.open_sink(tmp_path / "out", format="lerobot"), workers=1)
    recipe = vd.recipes.ppo_sft(min_success_steps=1)
    report = vd.run(source, recipe, vd.open_sink(tmp_path / "out", format="lerobot"), workers=1)
    assert report.counts["published_episodes"] == 2


def test_other_reasons_have_counts_alone() -> None:
    assert nothing_left({"too_short": 3}) == "no episode is left to publish: too_short 3"


def test_what_is_said_alike_of_many_is_said_of_a_few_and_counted() -> None:
    """Though each says it with its own name in it."""

    def failed(number: int, named: int) -> Record:
        message = f"data/demo_{named}/obs is missing"
        return Record(id=f"a.h5/demo_{number}", status="failed", reason="E206", message=message)

    lines: list[str] = []
    tell([*(failed(n, n) for n in range(30)), failed(30, 3)], lines.append)
    assert [line.partition(": ")[0] for line in lines] == ["E206 missing-key"] * 3 + ["E206"] + [
        "E206 missing-key"
    ]
    assert lines[3] == "E206: the same of 27 more episodes (quarantined)"
    assert "demo_30" in lines[4]
