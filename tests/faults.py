"""A machine that fails on command: runs in forked processes that die, or whose disk fails, at a chosen step.

    lab = Lab(folder)                                    # a zygote for each core, with everything imported
    lab.run(lab.case("rlds", target))                        # Outcome(steps=412, code=0, ...)
    lab.run(lab.case("rlds", target, kill=17))               # SIGKILL to driver and workers before the 17th step
    lab.run(lab.case("rlds", target, fail=17, errno=ENOSPC)) # the 17th step fails

`python -m tests.faults` is the zygote: one thread, so it may fork. It reads cases from standard input, a line of
JSON each. Steps are those of `vla_data.files.write`, counted over the driver and its worker, which is forked too.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import math
import mmap
import os
import queue
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

ZYGOTES = 2
EPISODES = 24
MINUTES = float(os.environ.get("VLA_DATA_MINUTES", "inf"))
"""After so many a nightly test begins nothing more, and says how much it did."""
_SUBREAPER = 36

_LOADED = (
    "converters.lerobot.sink",
    "converters.lerobot.source",
    "converters.rollouts.source",
    "converters.rdt2.sink",
    "converters.rlds.sink",
    "pyarrow.compute",
    "vla_data.files.tables",
    "vla_data.jobs.run",
    "vla_data.media.video",
)
"""What the zygote imports, so that its children need not."""

JOBS = ("rlds", "lerobot", "h264", "av1", "v21", "convert", "rdt2", "edit")
"""What is written: rollouts to RLDS, to LeRobot with JPEG images or video or of v2.1, LeRobot to RLDS, recordings
of two arms to RDT2's shards, and LeRobot with video to the same, of which an episode is trimmed within a
group of pictures.
"""
MADE_OF = {"convert": "lerobot", "edit": "h264"}
"""Job -> the job whose dataset it reads."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of `vla_data.run`, and what happens to it. ``job`` is one of `JOBS`."""

    job: str
    source: str
    target: str
    replace: bool = False
    workers: int = 1  # 0: the driver makes the parts itself
    part: int = 4  # episodes in one
    kill: int = 0
    alone: bool = False  # only the process that does the step is killed
    fail: int = 0
    errno: int = 0
    sticky: bool = False  # every later step but renames fails too
    call: int = 0  # of the C library, below the target's folder; fails, or -1: calls are only counted
    max_file: int = 0  # RLIMIT_FSIZE
    reads: str = ""
    log: str = ""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a run: ``code`` is the exit code of `vla_data.errors`, -9 when it was killed."""

    code: int
    steps: int = 0
    error: str = ""
    message: str = ""
    seconds: float = 0.0
    names: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    called: str = ""  # the one that failed


class Zygote:
    """A process that forks one run after another."""

    def __init__(self, preload: Path | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"LD_PRELOAD": str(preload)} if preload else {}),
        )

    def run_together(self, cases: Sequence[Case]) -> list[Outcome]:
        """Start all at the same moment."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([asdict(case) for case in cases]) + "\n")
        self._process.stdin.flush()
        return [Outcome(**row) for row in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class Lab:
    """Some zygotes, and small rollouts for them."""

    def __init__(self, folder: Path, episodes: int = EPISODES, preload: Path | None = None) -> None:
        self.folder = folder
        self._episodes = episodes
        self._rollouts = make_rollouts(folder / "rollouts", episodes)
        self._idle: queue.SimpleQueue[Zygote] = queue.SimpleQueue()
        self._all = [Zygote(preload) for _ in range(ZYGOTES)]
        for zygote in self._all:
            self._idle.put(zygote)
        self._golden: dict[str, str] = {}

    def run(self, case: Case) -> Outcome:
        return self.run_together([case])[0]

    def run_together(self, cases: Sequence[Case]) -> list[Outcome]:
        zygote = self._idle.get()
        try:
            return zygote.run_together(cases)
        finally:
            self._idle.put(zygote)

    def each(self, function: Callable[[T], R], items: Iterable[T], *, minutes: float = math.inf) -> list[R]:
        """The results for all items that are begun in time, as many at once as there are zygotes."""
        end = time.monotonic() + 60 * minutes

        def one(item: T) -> list[R]:
            return [function(item)] if time.monotonic() < end else []

        pool = ThreadPoolExecutor(ZYGOTES)
        try:
            return [result for results in pool.map(one, items) for result in results]
        finally:
            pool.shutdown(cancel_futures=True)  # one that failed ends them all

    def case(self, job: str, target: Path, **changes: Any) -> Case:
        return Case(job=job, target=str(target), **{"source": str(self.source(job)), **changes})

    def source(self, job: str) -> Path:
        """What a job reads: the rollouts, or a dataset that was made from them."""
        if job == "rdt2":
            from tests import two_arms

            arms = self.folder / "arms"
            return arms if arms.exists() else two_arms.write(arms, self._episodes)
        if job not in MADE_OF:
            return self._rollouts
        self.golden(MADE_OF[job])
        return self.folder / f"golden-{MADE_OF[job]}"

    def golden(self, job: str) -> str:
        """The hash of the dataset that a run without any fault makes."""
        if job not in self._golden:
            target = self.folder / f"golden-{job}"
            outcome = self.run(self.case(job, target))
            assert outcome.code == 0, outcome
            self._golden[job] = str(tree_hash(target))
        return self._golden[job]

    def golden_of(self, job: str, source: Path) -> str:
        """The same of other input, which its folder's name stands for."""
        name = f"{job}-{source.name}"
        if name not in self._golden:
            target = self.folder / f"golden-{name}"
            assert self.run(self.case(job, target, source=str(source))).code == 0
            self._golden[name] = str(tree_hash(target))
        return self._golden[name]

    def old(self, job: str) -> Path:
        """Another dataset of ours, for runs to replace."""
        target = self.folder / f"old-{job}"
        if not target.exists():
            few = self._few(job)
            outcome = self.run(self.case(job, target, source=str(few)))
            assert outcome.code == 0, outcome
        return target

    def _few(self, job: str) -> Path:
        """Other input of a job, which is little."""
        if job in MADE_OF:
            return self.old(MADE_OF[job])
        if job == "rdt2":
            from tests import two_arms

            return two_arms.write(self.folder / "few-arms", 2)
        return make_rollouts(self.folder / "few", 3, seed=100)

    def close(self) -> None:
        for zygote in self._all:
            zygote.close()


def make_rollouts(folder: Path, count: int, *, steps: int = 4, seed: int = 0) -> Path:
    """Tiny rollouts as collectors write them, once; of 16 rows, as x264 encodes fewer in more than one way."""
    from tests.rollouts import rollout, save

    if not folder.exists():
        for i in range(count):
            save(folder, f"e{i:03d}.npz", rollout(steps + i % 3, images="jpeg", size=(16, 16), seed=seed + i))
    return folder


def tree_hash(root: Path) -> str | None:
    """SHA-256 of the names and contents below a folder; None when there is none."""
    if not root.exists():
        return None
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found.update(f"{path.relative_to(root)}\0".encode())
        if path.is_file():
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def size_of(root: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def work_of(target: Path) -> Path:
    return target.parent / f".{target.name}.vla-data"


def leftovers(target: Path) -> list[str]:
    """What lies beside the target and should not."""
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def finished(target: Path) -> set[str]:
    """Episodes of parts that are made: those that may not be read again."""
    done = set()
    for receipt in (work_of(target) / "parts").glob("*.json"):
        with contextlib.suppress(ValueError):
            _, _, facts = receipt.read_bytes().partition(b"\n")
            done |= {row["record"]["id"] for row in json.loads(facts)["episodes"]}
    return done


def sizes(name: str, short: int, long: int) -> list[Any]:
    """A test's size, and the nightly one, which the environment's ``VLA_DATA_<name>`` overrules."""
    import pytest

    return [short, pytest.param(int(os.environ.get(f"VLA_DATA_{name}", long)), marks=pytest.mark.nightly)]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


# In the zygote and its children.


class Count:
    """A number that forked processes share."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def next(self) -> int:
        value = self.value + 1
        self._memory[:8] = struct.pack("q", value)
        return value

    @property
    def value(self) -> int:
        return int(struct.unpack("q", self._memory[:8])[0])


def arm(case: Case, count: Count, names: dict[str, int]) -> Callable[[str, Path], None]:
    """The hook that lets the case's step go wrong."""
    lasting = {"open", "write", "mkdir", "fsync", "remove"}

    def hook(name: str, path: Path) -> None:
        number = count.next()
        names[name] = names.get(name, 0) + 1
        if case.log:
            handle = os.open(case.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(handle, f"{name}\t{path}\n".encode())
            os.close(handle)
        if number == case.kill:
            if name == "remove" and path.is_dir():  # die in the middle of it
                files = sorted(item for item in path.rglob("*") if item.is_file())
                for item in files[: len(files) // 2]:
                    item.unlink()
            os.kill(os.getpid() if case.alone else -os.getpgid(0), signal.SIGKILL)
        if number == case.fail or (case.sticky and number > case.fail > 0 and name in lasting):
            raise OSError(case.errno, os.strerror(case.errno), str(path))

    return hook


def perform(case: Case, count: Count) -> Outcome:
    """Run it in this process."""
    import multiprocessing

    from tests.fault_sources import CountedSource
    from tests.rollouts import CAMERA
    from vla_data import open_sink
    from vla_data.errors import VlaDataError
    from vla_data.files import write as io
    from vla_data.jobs import engine, part, pool
    from vla_data.jobs import run as pipeline
    from vla_data.media.video_settings import VideoCopy, VideoSettings
    from vla_data.steps import Trim

    part.MAX_EPISODES = case.part  # type: ignore[misc]
    pool.Process = multiprocessing.get_context("fork").Process  # type: ignore[assignment, misc]
    if case.workers == 0:
        engine.make_parts = make_here  # type: ignore[assignment]
    names: dict[str, int] = {}
    io.hook = arm(case, count, names)
    source = CountedSource(
        root=Path(case.source),
        format="lerobot" if case.job in MADE_OF else "ppo_rollout",
        reads=Path(case.reads) if case.reads else None,
    )
    target = Path(case.target)
    sinks: dict[str, dict[str, Any]] = {
        "rlds": {"format": "rlds", "name": "set", "num_shards": 4, "val_fraction": 0.2},
        "lerobot": {"images": "jpeg"},
        "h264": {"video": VideoSettings(codec="h264")},
        "av1": {"video": VideoSettings(codec="av1")},
        "v21": {"version": "v2.1", "video": VideoSettings(codec="h264")},
        "rdt2": {"format": "rdt2"},
    }
    sinks["convert"] = sinks["rlds"]
    cameras = ((CAMERA, VideoSettings(codec="h264")),)
    sinks["edit"] = {"images": "keep", "video": VideoCopy(cameras=cameras, stated=(CAMERA,))}
    steps = (Trim(ranges=(("episode_000001", 1, None),)),) if case.job == "edit" else ()
    sink = open_sink(target, **sinks[case.job])
    begin = time.perf_counter()
    if case.call:
        ctypes.CDLL(None).failing_calls_arm(os.fsencode(target.parent), ctypes.c_long(case.call), case.errno)
    try:
        pipeline.run(source, steps, sink, workers=case.workers or 1, replace=case.replace)
    except VlaDataError as error:
        return Outcome(
            code=error.exit_code,
            error=error.code,
            message=str(error),
            steps=count.value,
            seconds=time.perf_counter() - begin,
            names=names,
        )
    except Exception as error:
        return Outcome(code=1, error="bug", message=f"{type(error).__name__}: {error}", steps=count.value)
    return Outcome(code=0, steps=count.value, seconds=time.perf_counter() - begin, names=names)


def _calls(case: Case) -> dict[str, Any]:
    if not case.call:
        return {}
    library = ctypes.CDLL(None)
    library.failing_calls_count.restype = ctypes.c_long
    library.failing_calls_name.restype = ctypes.c_char_p
    return {"calls": library.failing_calls_count(), "called": library.failing_calls_name().decode()}


def make_here(job: Any, digest: str, parts: Any, **_: Any) -> Iterator[Any]:
    """Make parts without a worker."""
    from vla_data.jobs.part import make_part

    for part in parts:
        make_part(job, digest, part)
        yield part


def _fork(case: Case, wait: int, gate: int) -> tuple[int, int, Count]:
    """Start a run that waits until the other end of the gate is closed; returns pid, its report and its steps."""
    count = Count()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setpgid(0, 0)
        signal.alarm(60)
        if case.max_file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (case.max_file, case.max_file))
        os.close(gate)
        os.read(wait, 1)
        try:
            text = json.dumps(asdict(replace(perform(case, count), **_calls(case)))).encode()
        except BaseException as error:
            text = json.dumps({"code": 1, "error": "test", "message": repr(error)}).encode()
        os.write(writer, text)
        os._exit(0)
    os.close(writer)
    return child, reader, count


def _run(cases: Sequence[Case]) -> list[Outcome]:
    wait, gate = os.pipe()
    started = [_fork(case, wait, gate) for case in cases]
    os.close(gate)
    os.close(wait)
    outcomes = []
    for pid, reader, count in started:
        with open(reader, "rb") as file:
            text = file.read()
        status = os.waitpid(pid, 0)[1]
        if os.WIFSIGNALED(status):
            outcomes.append(Outcome(code=-os.WTERMSIG(status), steps=count.value))
        else:
            outcomes.append(Outcome(**json.loads(text)))
    # Their workers are ours now; no run may begin before they are gone.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return outcomes


def _main() -> None:
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    for name in _LOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)

    for line in sys.stdin:
        outcomes = _run([Case(**row) for row in json.loads(line)])
        print(json.dumps([asdict(outcome) for outcome in outcomes]), flush=True)


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


if __name__ == "__main__":
    _main()
