"""The server that forks workers: what a worker gets from it, what ends with what, and what is done without it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

import vla_data as vd
from tests.jobs.test_workers import data_of, make
from tests.odd_sources import OddSource
from vla_data.formats import FORMATS
from vla_data.jobs import fork_client, fork_server, forked

ONE_THREAD = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
from vla_data.jobs.fork_server import is_alone
print(is_alone())
"""
RUN = """
import sys, threading
from pathlib import Path
import vla_data as vd
from tests.odd_sources import OddSource
def work():
    source = OddSource(count=2, poison=((0, "sleep"), (1, "sleep")), size=64 << 20)
    vd.run(source, (), vd.open_sink(Path(sys.argv[1])), workers=2)
if sys.argv[2] == "main":
    work()
else:
    def first():
        arguments = OddSource(count=1), (), vd.open_sink(Path(sys.argv[1] + "1"))
        thread = threading.Thread(target=vd.run, args=arguments)
        thread.start()
        thread.join()
    first()
    work()
"""
EARLY = """
import sys, threading
from pathlib import Path
from vla_data.jobs import forked
if sys.argv[2] == "thread":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
forked.fork_early(["converters.lerobot.sink"])
print(forked._server is not None)
from tests.jobs.test_fork_server import told
server = told(Path(sys.argv[1]))[0]["server"]
print(server == forked._server.pid, "fork_early" in Path(f"/proc/{server}/cmdline").read_text())
"""


@dataclass(frozen=True)
class Telling:
    """A step that notes what its worker is."""

    folder: Path

    def apply(self, episode: vd.Episode) -> vd.Episode:
        facts = {
            "pid": os.getpid(),
            "server": os.getppid(),
            "parent": getattr(multiprocessing.parent_process(), "pid", None),
            "name": os.environ.get("VLA_DATA_TOLD"),
            "settings": [os.environ.get(name) for name in fork_server.SETTINGS],
            "here": str(Path.cwd()),
            "numbers": [random.random(), float(np.random.random())],
        }
        (self.folder / episode.id).write_text(json.dumps(facts))
        print("told", flush=True)
        return episode


def told(folder: Path, workers: int = 1, *, name: str = "out") -> list[dict[str, object]]:
    folder.mkdir(exist_ok=True)
    source = OddSource(count=workers, size=64 << 20)
    vd.run(source, (Telling(folder),), vd.open_sink(folder / name), workers=workers)
    return [json.loads((folder / str(number)).read_text()) for number in range(workers)]


def test_what_the_server_loads_starts_no_thread() -> None:
    """Else it would refuse to fork, and each worker would be spawned."""
    ends = {place.partition(":")[0] for row in FORMATS.values() for place in (row.source, row.sink) if place}
    names = [*forked._LOADED, *forked._OTHERS, *sorted(end for end in ends if end.startswith("converters."))]
    words = [sys.executable, "-c", ONE_THREAD, json.dumps(names)]
    environment = {**os.environ, **fork_server.SETTINGS}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_worker_is_as_its_parent_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    first = told(tmp_path / "first")[0]
    monkeypatch.setenv("VLA_DATA_TOLD", "now")
    monkeypatch.chdir(tmp_path)
    second = told(tmp_path / "second")[0]
    assert first["server"] == second["server"] != os.getpid()
    assert (first["name"], second["name"]) == (None, "now")
    assert second["parent"] == os.getpid()
    assert second["settings"] == [os.environ.get(name) for name in fork_server.SETTINGS]
    assert first["numbers"] != second["numbers"]
    assert capfd.readouterr().out == "told\ntold\n"


@pytest.mark.parametrize(
    ("state", "said"), [("alone", "True\ntold\nTrue True\n"), ("thread", "False\ntold\nTrue False\n")]
)
def test_a_program_that_has_one_thread_is_forked_itself(state: str, said: str, tmp_path: Path) -> None:
    words = [sys.executable, "-c", EARLY, str(tmp_path / "told"), state]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (said, "")


def test_limits_and_places_of_this_process_make_a_new_server(tmp_path: Path) -> None:
    first = told(tmp_path / "first")[0]
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else min(1, hard), hard))
    try:
        if soft or hard:  # else there is no other limit to set
            assert told(tmp_path / "second")[0]["server"] != first["server"]
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def test_a_dead_server_is_replaced(tmp_path: Path) -> None:
    first = told(tmp_path / "first")[0]
    os.kill(int(str(first["server"])), signal.SIGKILL)
    assert told(tmp_path / "second")[0]["server"] != first["server"]


def test_a_server_that_was_left_in_a_request_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = told(tmp_path / "first")[0]

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fork_client, "is_told", interrupted)
        with pytest.raises(KeyboardInterrupt):
            told(tmp_path / "second")
    assert told(tmp_path / "third")[0]["server"] != first["server"]


def test_runs_in_threads_share_it(tmp_path: Path) -> None:
    source = OddSource(count=3, size=64 << 20)
    golden = data_of(make(source, tmp_path / "golden").target)
    with ThreadPoolExecutor(3) as threads:
        reports = list(threads.map(lambda n: make(source, tmp_path / str(n)), range(3)))
    assert [data_of(report.target) for report in reports] == [golden] * 3


def test_a_forked_process_has_its_own(tmp_path: Path) -> None:
    first = told(tmp_path / "first")[0]
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = int(told(tmp_path / "second")[0]["server"] == first["server"])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert told(tmp_path / "third")[0]["server"] == first["server"]


@pytest.mark.parametrize("starter", ["main", "thread"])
def test_server_and_workers_end_with_their_process(starter: str, tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path / "out"), starter])
    me, end = psutil.Process(process.pid), time.monotonic() + 120
    family: list[psutil.Process] = []
    while len(family) < 3 and time.monotonic() < end:
        family = me.children(recursive=True)
        time.sleep(0.01)
    assert len(family) == 3, family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def test_a_server_with_threads_forks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = data_of(make(OddSource(count=1), tmp_path / "golden").target)
    (tmp_path / "starts_a_thread.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(forked, "_LOADED", (*forked._LOADED, "starts_a_thread"))
    monkeypatch.setenv("PYTHONVLADATA", "another server than that of other tests")
    assert data_of(make(OddSource(count=1), tmp_path / "out").target) == golden
    server = forked._server
    assert server is not None
    assert server.refuses


def test_where_nothing_forks_workers_are_spawned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = data_of(make(OddSource(count=1), tmp_path / "golden").target)
    monkeypatch.setattr(forked, "_SYSTEMS", ())
    assert data_of(make(OddSource(count=1), tmp_path / "out").target) == golden
    assert told(tmp_path / "told")[0]["server"] == os.getpid()


def test_nor_where_the_server_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, refused = multiprocessing.util.spawnv_passfds, []

    def refuse(program: bytes, words: list[bytes], passed: list[int]) -> int:
        if any("fork_server" in os.fsdecode(word) for word in words):
            refused.append(program)
            raise BlockingIOError("no more processes")
        return start(program, words, passed)

    monkeypatch.setattr(multiprocessing.util, "spawnv_passfds", refuse)
    monkeypatch.setenv("PYTHONVLADATA", "another server than that of other tests")
    assert told(tmp_path / "told")[0]["server"] == os.getpid()
    assert refused


@pytest.mark.timeout(120)
def test_whoever_blocks_signals_does_not_hold_it_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocked signal stays blocked in what is started, and SIGCHLD is how a server hears of its workers."""
    monkeypatch.setenv("PYTHONVLADATA", "another server than that of other tests, with signals blocked")
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        assert told(tmp_path / "told")[0]["server"] != os.getpid()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
