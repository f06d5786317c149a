"""`vla-data quality`, and `--filter` of the commands that copy episodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import vla_data as vd
from tests.odd_sources import OddSource
from tests.report.test_inspect import PLACES, ROLLOUTS, assert_fits, options
from vla_data.cli.align import command as align
from vla_data.cli.convert import command as convert
from vla_data.cli.merge import command as merge
from vla_data.cli.quality import command
from vla_data.core import Episode, EpisodeRef
from vla_data.core.base import WrappedSource
from vla_data.core.provenance import to_json
from vla_data.errors import DataError, UsageError
from vla_data.measuring.row import COLUMNS
from vla_data.measuring.table import episode_list
from vla_data.steps import Choose
from vla_data.verification.provenance import open_provenance


class Bad(WrappedSource):
    """A source whose episode 1 can't be read."""

    def read(self, ref: EpisodeRef) -> Episode:
        if ref.id == "1":
            raise DataError("E105", "it is cut")
        return super().read(ref)


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


@pytest.mark.parametrize("kind", PLACES)
def test_every_format_has_a_table(kind: str) -> None:
    path, declared, want = PLACES[kind]
    table = vd.quality(path, **options(declared))
    assert len(table.rows) == want["episodes"]
    assert sum(row.steps or 0 for row in table.rows) == want["steps"]
    assert [row.position for row in table.rows] == list(range(want["episodes"]))
    if "solved" in want:
        assert sum(bool(row.success) for row in table.rows) == want["solved"]
    cameras = vd.open_source(path, **options(declared))
    seen = bool(cameras.read(cameras.episodes()[0]).frames)
    assert all((row.frozen is not None) == seen for row in table.rows)
    assert_fits(str(table))


def test_the_table_is_written_as_parquet_and_json_with_definitions(tmp_path: Path) -> None:
    assert call(ROLLOUTS, "-o", tmp_path / "t.parquet", "--json").exit_code == 0
    assert call(ROLLOUTS, "-o", tmp_path / "t.json").exit_code == 0
    told = json.loads((tmp_path / "t.json").read_text())
    assert pq.read_table(tmp_path / "t.parquet").to_pylist() == told["episodes"]
    assert list(told["columns"]) == list(COLUMNS) == list(told["episodes"][0])
    assert told["columns"]["path"]["unit"] == "m"
    with pytest.raises(vd.TargetExistsError):
        call(ROLLOUTS, "-o", tmp_path / "t.json")
    with pytest.raises(UsageError, match=r"ends in neither \.parquet nor \.json"):
        call(ROLLOUTS, "-o", tmp_path / "t.csv")


def test_a_condition_gives_an_episode_list_that_other_commands_read() -> None:
    done = call(ROLLOUTS, "--filter", "idle < 0.3")
    assert "  --episodes 0,2" in done.stdout
    told = json.loads(call(ROLLOUTS, "--filter", "idle < 0.3", "--json").stdout)
    assert (told["chosen"], told["episode_list"]) == ([0, 2], "0,2")
    assert episode_list([7, 1, 2, 3]) == "1-3,7"


def test_a_column_that_is_unknown_of_all_is_refused_with_its_definition() -> None:
    with pytest.raises(vd.UndeclaredError, match=r"still is unknown of every episode. Share of steps"):
        call(ROLLOUTS, "--filter", "still < 0.3")


def test_an_episode_that_cannot_be_read_has_a_row_and_stays_with_the_run() -> None:
    table = vd.quality(Bad(OddSource(count=3)))
    assert [bool(row.error) for row in table.rows] == [False, True, False]
    assert table.filter("steps > 5") == Choose(condition="steps > 5", rejected=("0",))
    assert table.positions("steps > 5") == [2]


def test_a_step_rejects_what_was_not_chosen_and_is_provenance() -> None:
    step = Choose(condition="idle < 1", rejected=("a",), unknown=("b",))
    source = OddSource()
    one = source.read(source.episodes()[0])
    assert [step.reject(replace(one, id=name)) for name in "abc"] == ["filter", "filter_unknown", None]
    assert to_json(step) == {"type": "Choose", "condition": "idle < 1", "rejected": ["a"], "unknown": ["b"]}


def test_align_convert_and_merge_keep_what_a_filter_chose(tmp_path: Path) -> None:
    run = CliRunner().invoke
    for target, words in (
        ("converted", [str(ROLLOUTS), str(tmp_path / "converted")]),
        ("aligned", [str(ROLLOUTS), str(tmp_path / "aligned"), "--min-success-steps", "0"]),
        ("merged", [str(tmp_path / "merged"), str(ROLLOUTS)]),
    ):
        what = {"converted": convert, "aligned": align, "merged": merge}[target]
        done = run(what, [*words, "--filter", "idle < 0.3", "--workers", "1"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        ledger = vd.open_ledger(tmp_path / target)
        assert [(r.status, r.reason) for r in ledger.records] == [
            ("published", ""),
            ("rejected", "filter"),
            ("published", ""),
        ]
        manifest = json.loads((tmp_path / target / "meta/vla_data/manifest.json").read_text())
        assert manifest["provenance"]["recipe"][0]["condition"] == "idle < 0.3"
    words = [str(tmp_path / "converted"), str(tmp_path / "list.json"), "--to", "episode-list"]
    done = run(convert, [*words, "--filter", "position > 0"], catch_exceptions=False)
    assert json.loads((tmp_path / "list.json").read_text()) == [1], done.output
    _, steps, _ = open_provenance(manifest, [ROLLOUTS], tmp_path / "merged")
    assert steps == (Choose(condition="idle < 0.3", rejected=(ledger.records[1].id,)),)


def test_a_wrong_filter_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean idle"):
        CliRunner().invoke(
            convert, [str(ROLLOUTS), str(tmp_path / "x"), "--filter", "idel < 1"], catch_exceptions=False
        )
    assert not (tmp_path / "x").exists()
