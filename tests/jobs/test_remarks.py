"""What a run that publishes nothing says."""

from __future__ import annotations

from pathlib import Path

import pytest

import vla_data as vd
from tests.rollouts import MOVE, rollout, save
from vla_data.cli.conversion import declared
from vla_data.core import EpisodeMeta, Feature, Schema
from vla_data.core.ledger import Record
from vla_data.errors import RefusedError, UsageError
from vla_data.jobs.remarks import merged_undeclared, nothing_left, one_kind, tell
from vla_data.steps.features import Declare


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


def merged_record(member: str) -> Record:
    return Record(id=f"{member}/0", status="published", length=1, meta=EpisodeMeta(member=member))


def test_actions_of_several_datasets_that_nobody_declared_get_a_word() -> None:
    plain = Schema(features={"action": Feature(dtype="float32", shape=(7,))}, fps=5)
    told = Feature(dtype="float32", shape=(7,), convention={"layout": {"gripper": [6]}})
    (line,) = merged_undeclared([merged_record("a"), merged_record("b")], plain)
    assert line.startswith("what action means is undeclared in a, b, so their grippers")
    assert "--map" in line
    assert merged_undeclared([merged_record("a")], plain) == []
    assert (
        merged_undeclared([merged_record("a"), merged_record("b")], Schema(features={"action": told}, fps=5)) == []
    )


def test_what_makes_one_kind_is_said_of_what_differs() -> None:
    one = Schema(features={"action": Feature(dtype="float32", shape=(7,))}, fps=5)
    declared = Schema(
        features={"action": Feature(dtype="float32", shape=(7,), convention={"kind": "delta"})}, fps=5
    )
    other = Schema(features={"action": Feature(dtype="float32", shape=(8,))}, fps=5)
    assert "--declare" in one_kind([one.to_text(), declared.to_text()])
    assert "--keep" in one_kind([one.to_text(), other.to_text()])


def test_what_is_declared_twice_must_be_alike() -> None:
    same = ["action:kind=delta", "action:kind=delta", "observation.state:kind=absolute"]
    assert declared(same) == {"action": {"kind": "delta"}, "observation.state": {"kind": "absolute"}}
    with pytest.raises(UsageError, match=r"E001.*says action:kind twice, and not alike"):
        declared(["action:kind=delta", "action:kind=absolute"])


def test_numbers_that_are_not_what_is_declared_are_told_when_a_run_ends(tmp_path: Path) -> None:
    for seed in range(2):
        save(tmp_path / "in", f"e{seed}.npz", rollout(T=6, size=(8, 8), seed=seed))
    source = vd.open_source(tmp_path / "in")
    narrow = {"gripper_control": "position", "gripper_open": 0.1, "gripper_closed": 0.0}
    step = Declare(conventions=(("action", tuple(narrow.items())),))
    report = vd.run(source, (step,), vd.open_sink(tmp_path / "out", format="lerobot"), workers=1)
    told = [line for line in report.warnings if "far beyond" in line]
    assert told == [
        "action [6] declared open at 0.1 and closed at 0, and far beyond; declare what is true "
        "(--declare FEATURE:KEY=VALUE) (2 episodes)"
    ]
