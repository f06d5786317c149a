"""The same job on Apache Beam: the same bytes, also when a bundle runs twice or a worker of it dies."""

from __future__ import annotations

import functools
import hashlib
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vla_data as vd
from tests.odd_sources import OddSource
from tests.paths import TESTS
from vla_data.errors import MachineError, UsageError, VlaDataError
from vla_data.formats import storage_of
from vla_data.jobs.beam import part_store as depots
from vla_data.jobs.job import Job
from vla_data.jobs.part import blob_file, plan, read_part, receipt_file
from vla_data.jobs.pool import Limits

beam = pytest.importorskip("vla_data.jobs.beam.engine")

ROLLOUTS = TESTS / "data/rollouts"
PROCESSES = ("--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Beam warns about itself, in many ways
    pytest.mark.timeout(200),
]


def tree(root: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def run(target: Path, engine: Any = None, source: Any = None, **settings: Any) -> vd.Report:
    return vd.run(source or vd.open_source(ROLLOUTS), (), vd.open_sink(target), engine=engine, **settings)


def test_beam_gives_the_same_tree_in_one_process_and_in_several(tmp_path: Path) -> None:
    run(tmp_path / "local", workers=2)
    run(tmp_path / "beam", beam.BeamEngine())
    run(tmp_path / "processes", beam.BeamEngine(PROCESSES))
    assert tree(tmp_path / "local") == tree(tmp_path / "beam") == tree(tmp_path / "processes")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["beam", "local", "processes"]


def test_a_step_of_a_users_own_gives_the_same_tree(tmp_path: Path) -> None:
    """It is of a function's inside, so no worker can import it."""

    class Halved:
        def apply(self, episode: vd.Episode) -> vd.Episode:
            action = episode.arrays["action"]
            return replace(episode, arrays={**episode.arrays, "action": (action / 2).astype(action.dtype)})

    source, steps = OddSource(count=2), (Halved(),)
    vd.run(source, steps, vd.open_sink(tmp_path / "local"), workers=1)
    for name, engine in (("beam", beam.BeamEngine()), ("processes", beam.BeamEngine(PROCESSES))):
        vd.run(source, steps, vd.open_sink(tmp_path / name), engine=engine)
        assert tree(tmp_path / name) == tree(tmp_path / "local")


def test_bad_episodes_and_readers_that_crash_cost_the_same_as_locally(tmp_path: Path) -> None:
    source = OddSource(poison=((1, "segfault"),), count=4)
    ledgers = [
        run(tmp_path / name, engine, source, max_bad=1.0).ledger
        for name, engine in (("local", None), ("beam", beam.BeamEngine()))
    ]
    assert ledgers[0] == ledgers[1]
    assert [(r.id, r.status, r.reason) for r in ledgers[1].records][1] == ("1", "failed", "E502")


@pytest.fixture(params=["folder", "storage"])
def depot(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        (tmp_path / "work").mkdir()
        return depots.FolderDepot(tmp_path / "work")
    return depots.StorageDepot(storage_of(str(tmp_path / "store")))


def test_a_part_that_is_made_twice_at_once_changes_nothing(depot: Any, tmp_path: Path) -> None:
    job = Job(vd.open_source(ROLLOUTS), (), vd.open_sink(tmp_path / "out"), tmp_path / "work")
    job.work.mkdir(exist_ok=True)
    parts = plan(job.source.episodes())
    depots.write_plan(depot, parts)
    assert [depots.read_plan(depot, part.number) for part in parts] == parts
    with ThreadPoolExecutor(2) as pool:
        make = functools.partial(depots.make_number, job.pack(), job.digest(), Limits(), depot, "token")
        assert list(pool.map(make, [0, 0])) == [0, 0]
    assert depots.is_confirmed(depot, "token", parts[0])
    assert not depots.is_confirmed(depot, "another", parts[0])
    assert depot.collect(job, job.digest(), parts[0])
    first = [file(job, parts[0]).read_bytes() for file in (blob_file, receipt_file)]
    (getattr(depot, "folder", tmp_path / "store") / "00000000.json").unlink()  # a bundle that was lost
    for file in (blob_file, receipt_file):
        file(job, parts[0]).unlink(missing_ok=True)
    assert not depot.collect(job, job.digest(), parts[0])
    depots.make_number(job.pack(), job.digest(), Limits(), depot, "token", 0)
    assert depot.collect(job, job.digest(), parts[0])
    assert [file(job, parts[0]).read_bytes() for file in (blob_file, receipt_file)] == first


def test_workers_without_a_common_disk_leave_parts_in_a_store_and_it_is_empty_afterwards(tmp_path: Path) -> None:
    run(tmp_path / "local")
    run(tmp_path / "beam", beam.BeamEngine(PROCESSES, work=str(tmp_path / "store")))
    assert tree(tmp_path / "local") == tree(tmp_path / "beam")
    assert [p for p in (tmp_path / "store").rglob("*") if p.is_file()] == []


def test_a_source_that_changed_after_its_part_was_made_is_read_again(tmp_path: Path, depot: Any) -> None:
    rollouts = tmp_path / "rollouts"
    shutil.copytree(ROLLOUTS, rollouts)
    job = Job(vd.open_source(rollouts), (), vd.open_sink(tmp_path / "out"), tmp_path / "work")
    job.work.mkdir(exist_ok=True)
    parts = plan(job.source.episodes())
    depots.write_plan(depot, parts)
    depots.make_number(job.pack(), job.digest(), Limits(), depot, "first", 0)
    victim, other = sorted(rollouts.glob("*.npz"))[:2]
    shutil.copy(other, victim)
    depots.make_number(job.pack(), job.digest(), Limits(), depot, "second", 0)
    assert depots.is_confirmed(depot, "second", parts[0])
    assert depot.collect(job, job.digest(), parts[0])
    made = read_part(job, job.digest(), parts[0])
    assert made is not None
    assert len({item.record.source_sha256 for item in made}) == len(made) - 1


def test_what_goes_wrong_as_a_whole_comes_back_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise MachineError("E701", "no room")
        yield

    monkeypatch.setattr(depots, "make_parts", fails)
    with pytest.raises(MachineError, match="no room") as caught:
        run(tmp_path / "out", beam.BeamEngine())
    assert caught.value.code == "E701"
    assert not (tmp_path / "out").exists()


def test_a_runner_that_fails_again_and_again_is_told_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> int:
        raise RuntimeError("the worker is gone")

    with monkeypatch.context() as patch:
        patch.setattr(beam, "make_number", dies)
        with pytest.raises(MachineError, match=r"Beam did not finish 1 of the parts: .*the worker is gone"):
            run(tmp_path / "out", beam.BeamEngine())
    assert run(tmp_path / "out", beam.BeamEngine()).exit_code == 0


@pytest.mark.parametrize(
    "option",
    [
        "--runner=NoSuchRunner",
        "--direct_num_workers=abc",
        "--direct_num_workers=-3",
        "--direct_running_mode=foo",
        "--runner",
        "--no_such_option=3",
        "positional",
    ],
)
def test_options_that_beam_does_not_take_are_one_line(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "out", beam.BeamEngine((option,)))
    assert caught.value.code == "E001"
    assert "\n" not in caught.value.message
    assert capsys.readouterr().err == ""


def test_a_job_service_that_is_not_there_is_told(tmp_path: Path) -> None:
    options = ("--runner=PortableRunner", "--job_endpoint=127.0.0.1:1", "--environment_type=LOOPBACK")
    with pytest.raises(MachineError, match="no job service answers"):
        run(tmp_path / "out", beam.BeamEngine(options))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("options", [(), pytest.param(PROCESSES, marks=pytest.mark.nightly)])
def test_an_interrupt_ends_it(number: int, code: int, options: tuple[str, ...], tmp_path: Path) -> None:
    shutil.copytree(ROLLOUTS, tmp_path / "in")
    command = [sys.executable, "-m", "vla_data", "align", str(tmp_path / "in"), str(tmp_path / "out")]
    words = ["--engine", "beam", *(["--", *options] if options else [])]
    work = tmp_path / ".out.vla-data/parts"
    for episodes in (60, 300, 1500):  # more of them where a busy machine sent the signal after the end
        for n in range(episodes):
            shutil.copy(next(ROLLOUTS.glob("*.npz")), tmp_path / f"in/more{n}.npz")
        process = subprocess.Popen([*command, *words], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not list(work.glob("*.blob")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        if process.wait(60) == code:
            break
        assert process.returncode == 0
        shutil.rmtree(tmp_path / "out")
    assert process.returncode == code
    assert not (tmp_path / "out").exists()


def test_options_for_beam_need_the_engine(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from vla_data.cli.convert import command

    done = CliRunner().invoke(command, [str(ROLLOUTS), str(tmp_path / "out"), "--", "--runner=FnApiRunner"])
    assert isinstance(done.exception, VlaDataError)
    assert "--engine beam" in str(done.exception)
