"""The same job on runners with workers in other processes: the same bytes, whoever dies."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import vla_data as vd
from tests.odd_sources import OddSource
from tests.paths import ROOT
from tests.stores import get_tree, local_tree, put_tree

beam = pytest.importorskip("vla_data.jobs.beam.engine")

ROLLOUTS = ROOT / "tests/data/rollouts"
PART = 64 << 20
"""Size of an episode that has a part of its own."""
PROCESSES = ("--runner=FnApiRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # Beam and Dask warn about themselves, in many ways
    pytest.mark.timeout(280),
]


@contextlib.contextmanager
def started(*words: str, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that runs until the end of the block, in the repository's root, with all that it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
            for one in (psutil.Process(process.pid), *children):
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.kill()
        process.wait()


@pytest.fixture(scope="module")
def dask(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Options for Dask on a cluster of two workers, each with a nanny, which reaches the S3 server."""
    pytest.importorskip("distributed")
    file = tmp_path_factory.mktemp("dask") / "scheduler.json"
    common, dull = ("--scheduler-file", str(file)), ("--no-dashboard",)
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            started(
                "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *common
            )
        )
        for _ in range(2):
            words = ("--nthreads", "1", *dull, "--local-directory", str(file.parent))
            stack.enter_context(started("distributed.cli.dask_worker", *words, *common))
        wait_for(file.is_file)
        address = json.loads(file.read_text())["address"]
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        yield (
            "--runner=apache_beam.runners.dask.dask_runner.DaskRunner",
            f"--dask_client_address={address}",
            "--dask_npartitions=8",
        )


@pytest.fixture(scope="module")
def portable() -> Iterator[tuple[str, ...]]:
    """Options for Beam's job service on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started("apache_beam.runners.portability.local_job_service_main", "--port", str(port)):
        wait_for(lambda: reachable(port))
        yield ("--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}", "--environment_type=LOOPBACK")


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def reachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


AT_NIGHT = functools.partial(pytest.param, marks=pytest.mark.nightly)


def on(*runners: str) -> pytest.MarkDecorator:
    """Run a test on these at each push, and at night on the others too."""
    every = ("processes", "dask", "portable")
    return pytest.mark.parametrize(
        "options", [one if one in runners else AT_NIGHT(one) for one in every], indirect=True
    )


@pytest.fixture
def options(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options for a runner by its name."""
    if request.param == "processes":
        return PROCESSES
    found: tuple[str, ...] = request.getfixturevalue(request.param)
    return found


def run(target: str | Path, source: Any, engine: Any = None, **settings: Any) -> vd.Report:
    return vd.run(source, (), vd.open_sink(target), engine=engine, max_bad=1.0, **settings)


@on("dask", "portable")
def test_every_runner_gives_the_same_tree(options: tuple[str, ...], tmp_path: Path) -> None:
    source = OddSource(count=5, size=PART)
    run(tmp_path / "local", source)
    run(tmp_path / "beam", source, beam.BeamEngine(options))
    assert local_tree(tmp_path / "local") == local_tree(tmp_path / "beam")


@on("dask")
def test_bad_episodes_give_the_same_ledger(options: tuple[str, ...], tmp_path: Path) -> None:
    source = OddSource(count=20, poison=((7, "segfault"),))  # 5 %
    ledgers = [
        run(tmp_path / name, source, engine).ledger
        for name, engine in (("local", None), ("beam", beam.BeamEngine(options)))
    ]
    assert ledgers[0] == ledgers[1]
    assert sum(record.status == "failed" for record in ledgers[1].records) == 1


@on("processes")
def test_a_runners_worker_that_dies_costs_nothing(options: tuple[str, ...], tmp_path: Path) -> None:
    if options[0] == "--runner=PortableRunner":
        pytest.skip("its workers with LOOPBACK are threads of the driver")
    (tmp_path / "marks").mkdir()
    source = OddSource(count=6, size=PART, poison=((3, "kill_parent"),), once=tmp_path / "marks")
    (tmp_path / "marks/kill_parent-3").touch()  # as if it were done already
    run(tmp_path / "local", source)
    (tmp_path / "marks/kill_parent-3").unlink()
    run(tmp_path / "beam", source, beam.BeamEngine(options))
    assert [path.name for path in (tmp_path / "marks").iterdir()] == ["kill_parent-3"]
    assert local_tree(tmp_path / "local") == local_tree(tmp_path / "beam")


@on("processes")
@pytest.mark.parametrize("after", [AT_NIGHT(0.5), AT_NIGHT(1.0), AT_NIGHT(2.0), 3.0])
def test_a_driver_that_is_killed_is_gone_on_with(options: tuple[str, ...], after: float, tmp_path: Path) -> None:
    poison = tuple((n, "nap") for n in range(8))
    run(tmp_path / "local", OddSource(count=8, size=PART, poison=poison))
    code = f"""
import sys
import vla_data as vd
from tests.odd_sources import OddSource
from vla_data.jobs.beam.engine import BeamEngine
source = OddSource(count=8, size={PART}, poison={poison!r})
print("go", flush=True)
vd.run(source, (), vd.open_sink(sys.argv[1]), engine=BeamEngine({options!r}))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path / "beam")]
    driver = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT)
    assert driver.stdout is not None
    driver.stdout.readline()
    time.sleep(after)
    children = psutil.Process(driver.pid).children(recursive=True)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert not (tmp_path / "beam").exists()
    run(tmp_path / "beam", OddSource(count=8, size=PART, poison=poison), beam.BeamEngine(options))
    assert local_tree(tmp_path / "local") == local_tree(tmp_path / "beam")
    for child in children:  # what a killed driver's runner leaves is the runner's, and not of this test
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


@on("dask")
def test_workers_that_share_no_disk_read_and_write_s3(
    options: tuple[str, ...], s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    base = f"{s3}/{uuid.uuid4().hex}"
    put_tree(ROLLOUTS, f"{base}/in")
    run(tmp_path / "local", vd.open_source(ROLLOUTS))
    engine = beam.BeamEngine(options, work=f"{base}/work")
    run(f"{base}/out", vd.open_source(f"{base}/in"), engine)
    assert get_tree(f"{base}/out") == local_tree(tmp_path / "local")
    assert get_tree(f"{base}/work") == {}


def test_a_driver_that_is_killed_over_s3_is_gone_on_with(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLA_DATA_CACHE", str(tmp_path / "cache"))
    base = f"{s3}/{uuid.uuid4().hex}"
    poison = tuple((n, "nap") for n in range(6))
    run(tmp_path / "local", OddSource(count=6, size=PART, poison=poison))
    code = f"""
import vla_data as vd
from tests.odd_sources import OddSource
from vla_data.jobs.beam.engine import BeamEngine
source = OddSource(count=6, size={PART}, poison={poison!r})
print("go", flush=True)
vd.run(source, (), vd.open_sink("{base}/out"), engine=BeamEngine({PROCESSES!r}, work="{base}/work"))
"""
    for after in (6.0, None):
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        driver = subprocess.Popen([sys.executable, "-c", code], env=env, cwd=ROOT, stderr=subprocess.DEVNULL)
        try:
            driver.wait(after)
            break
        except subprocess.TimeoutExpired:
            for child in psutil.Process(driver.pid).children(recursive=True):
                child.kill()
            driver.kill()
            driver.wait()
    assert driver.returncode == 0
    assert get_tree(f"{base}/out") == local_tree(tmp_path / "local")
    assert get_tree(f"{base}/work") == {}


def test_merging_on_beam(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from vla_data.cli import cli

    words = ["merge", "--json"]
    for name in ("one", "two"):
        run(tmp_path / name, vd.open_source(ROLLOUTS))
        words.append(str(tmp_path / name))
    for name, engine in (("local", []), ("beam", ["--engine", "beam", "--", "--runner=FnApiRunner"])):
        done = CliRunner().invoke(cli, [words[0], str(tmp_path / name), *words[1:], *engine])
        assert done.exit_code == 0, done.output
    assert local_tree(tmp_path / "local") == local_tree(tmp_path / "beam")


def test_the_transform_is_part_of_a_pipeline_of_ones_own(tmp_path: Path) -> None:
    import apache_beam

    from vla_data.jobs.beam.part_store import FolderDepot, is_confirmed, write_plan
    from vla_data.jobs.job import Job
    from vla_data.jobs.part import plan, read_part

    source, sink = OddSource(count=3, size=PART), vd.open_sink(tmp_path / "out")
    job = Job(source, (), sink, tmp_path / "work")
    job.work.mkdir()
    parts, depot = plan(source.episodes()), FolderDepot(job.work)
    write_plan(depot, parts)
    options = apache_beam.options.pipeline_options.PipelineOptions(["--runner=FnApiRunner"])
    with apache_beam.Pipeline(options=options) as pipeline:
        numbers = pipeline | apache_beam.Create([part.number for part in parts])
        made = numbers | beam.MakeParts(job, job.digest(), depot, "token")
        _ = made | apache_beam.Map(lambda number: (tmp_path / f"made{number}").touch())
    assert all((tmp_path / f"made{part.number}").exists() for part in parts)
    assert all(is_confirmed(depot, "token", part) and read_part(job, job.digest(), part) for part in parts)
