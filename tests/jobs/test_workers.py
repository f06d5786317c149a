"""Workers that die, hang, swallow memory or have a bug: what becomes of the run (rows 85 to 87)."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.odd_sources import OddSource
from tests.rollouts import rollout, save
from vla_data import Limits, Report, open_sink
from vla_data.jobs.run import run

Golden = Callable[[OddSource], dict[str, bytes]]

LIMITS = Limits(seconds=20.0, memory=1 << 30)
SHORT = Limits(seconds=2.0)  # a healthy episode needs a tenth of that, also on a machine that is busy otherwise
CODES = {
    "kill": "E501",
    "segfault": "E502",
    "abort": "E502",
    "exit": "E502",
    "sleep": "E503",
    "allocate": "E504",
}


def make(source: OddSource, target: Path, *, workers: int = 2, limits: Limits = LIMITS) -> Report:
    return run(source, (), open_sink(target, images="png"), workers=workers, limits=limits, max_bad=1.0)


def data_of(target: Path) -> dict[str, bytes]:
    """Every file of the dataset but our own record of the run."""
    return {
        str(path.relative_to(target)): path.read_bytes()
        for path in sorted(target.rglob("*"))
        if path.is_file() and "vla_data" not in path.parts
    }


def reasons(report: Report) -> dict[str, str]:
    return {record.id: record.reason for record in report.ledger.records if record.status == "failed"}


@pytest.fixture(scope="module")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Golden:
    """The dataset that would be there if the poisoned episodes had never been."""

    @functools.cache
    def made(source: OddSource) -> dict[str, bytes]:
        poisoned = tuple(number for number, _ in source.poison)
        target = tmp_path_factory.mktemp("golden") / "out"
        return data_of(make(OddSource(count=source.count, without=poisoned), target, workers=1).target)

    # What the poison was plays no part.
    return lambda source: made(
        OddSource(poison=tuple((number, "") for number, _ in source.poison), count=source.count)
    )


@pytest.mark.parametrize(
    "deed",
    [*CODES, pytest.param("sleep_stubbornly", marks=pytest.mark.nightly)],  # killing it takes 3 s each time
)
def test_poisoned_episode_is_quarantined_and_nothing_else_is_lost(
    deed: str, golden: Golden, tmp_path: Path
) -> None:
    source = OddSource(poison=((1, deed),), count=3)
    limits = SHORT if deed.startswith("sleep") else LIMITS
    report = make(source, tmp_path / "out", workers=1, limits=limits)
    assert reasons(report) == {"1": CODES.get(deed, "E503")}
    assert report.exit_code == 3
    (record,) = [record for record in report.ledger.records if record.status == "failed"]
    assert record.message
    assert record.message.isprintable()
    assert data_of(report.target) == golden(source)


def test_several_poisons_in_several_parts_cost_exactly_their_episodes(golden: Golden, tmp_path: Path) -> None:
    poison = ((0, "kill"), (3, "segfault"), (4, "allocate"))
    source = OddSource(poison=poison, count=7, size=30 << 20)  # two episodes a part
    report = make(source, tmp_path / "out")
    assert reasons(report) == {str(number): CODES[deed] for number, deed in poison}
    assert data_of(report.target) == golden(source)


def test_every_episode_poisoned_is_refused(tmp_path: Path) -> None:
    from vla_data.errors import RefusedError

    source = OddSource(poison=((0, "kill"), (1, "kill")), count=2)
    with pytest.raises(RefusedError) as caught:
        make(source, tmp_path / "out", workers=1)
    assert caught.value.code == "E402"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("deed", ["kill", "segfault", "sleep"])
def test_worker_that_dies_once_costs_nothing(deed: str, tmp_path: Path) -> None:
    source = OddSource(poison=((1, deed),), count=2, once=tmp_path)
    report = make(source, tmp_path / "out", workers=1, limits=SHORT if deed == "sleep" else LIMITS)
    assert reasons(report) == {}
    assert report.counts["published_episodes"] == 2


def test_episode_that_a_worker_died_over_is_tried_again_by_the_next_run(tmp_path: Path) -> None:
    from vla_data.errors import RefusedError

    first = OddSource(poison=((1, "kill"),), count=3)
    with pytest.raises(RefusedError):
        run(first, (), open_sink(tmp_path / "out"), workers=1, limits=LIMITS, max_bad=0.0)
    (tmp_path / "marks").mkdir()
    (tmp_path / "marks/kill-1").touch()  # now the reader is well again
    report = make(OddSource(poison=((1, "kill"),), count=3, once=tmp_path / "marks"), tmp_path / "out")
    assert reasons(report) == {}


@pytest.mark.parametrize("workers", [1, 2])
def test_bug_fails_the_run_and_publishes_nothing(workers: int, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="a defect of the reader"):
        make(OddSource(poison=((2, "bug"),), count=4, size=40 << 20), tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


def test_bug_leaves_an_old_dataset_as_it_was(tmp_path: Path) -> None:
    make(OddSource(count=2), tmp_path / "out", workers=1)
    before = data_of(tmp_path / "out")
    source = OddSource(poison=((0, "bug"),), count=2)
    with pytest.raises(ZeroDivisionError):
        run(source, (), open_sink(tmp_path / "out"), workers=1, limits=LIMITS, replace=True)
    assert data_of(tmp_path / "out") == before


def test_result_does_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    source = OddSource(count=5, size=40 << 20)
    one = make(source, tmp_path / "one", workers=1)
    three = make(source, tmp_path / "three", workers=3)
    assert data_of(one.target) == data_of(three.target)
    assert one.ledger == three.ledger


@pytest.mark.parametrize("memory", [680, 700, 720, 740])
def test_memory_limit_of_a_worker_is_the_one_that_was_asked_for(memory: int, tmp_path: Path) -> None:
    """Whatever the first episode leaves of it, in blocks of 64 MiB, the next one has it all."""
    source = OddSource(poison=((0, "allocate"),), count=2)
    report = make(source, tmp_path / "out", workers=1, limits=Limits(seconds=30, memory=memory << 20))
    assert reasons(report) == {"0": "E504"}


SCRIPT = """
from pathlib import Path
import vla_data as vd

print("the script runs")
source = vd.open_source("rollouts")
steps = vd.recipes.ppo_sft(min_success_steps=6, pos_thresh=0.01, rot_thresh=0.06)
report = vd.run(source, steps, vd.open_sink("aligned", format="lerobot"))
print(report)
"""


def test_script_without_a_main_guard_works_and_runs_once(tmp_path: Path) -> None:
    for i in range(2):
        save(tmp_path / "rollouts", f"e{i}.npz", rollout(10, size=(8, 16), seed=i))
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("the script runs") == 1
    assert "Successful episodes" in done.stdout
    assert (tmp_path / "aligned/meta/info.json").is_file()


def test_script_on_standard_input_works(tmp_path: Path) -> None:
    save(tmp_path / "rollouts", "e0.npz", rollout(10, size=(8, 16)))
    done = subprocess.run(
        [sys.executable, "-"],
        input=SCRIPT,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("the script runs") == 1
