"""Steps, sources and sinks of a user's own run in workers, wherever they are defined; old and new never mix."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import vla_data as vd
from tests.odd_sources import OddSource
from tests.paths import ROOT
from vla_data.errors import UsageError
from vla_data.jobs.engine import LocalEngine
from vla_data.jobs.job import Job
from vla_data.jobs.part import Part
from vla_data.jobs.pool import Limits
from vla_data.jobs.run import run

SCRIPT = """
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import vla_data as vd
from gains import gain

BIAS = 1.0

@dataclass(frozen=True)
class Noted(vd.steps.Length):
    log: Path = field(default=Path("log.txt").absolute(), repr=False)

    def reject(self, episode):
        with open(self.log, "a") as file:
            file.write(episode.id + "\\n")

@dataclass(frozen=True)
class Source:
    root: Path = field(repr=False)

    @property
    def inner(self):
        return vd.open_source(self.root)

    def episodes(self):
        return self.inner.episodes()

    def fingerprint(self, ref):
        return self.inner.fingerprint(ref)

    def read(self, ref):
        return self.inner.read(ref)

    def schema(self, episode):
        return self.inner.schema(episode)

class Scale:
    def apply(self, episode):
        action = episode.arrays["action"]
        return replace(episode, arrays={**episode.arrays, "action": (action * gain() + BIAS).astype(action.dtype)})

class Sink(type(vd.open_sink("x"))):
    def check(self, folder, episodes):
        (folder / "meta/checked.txt").write_text("by my own sink")
        super().check(folder, episodes)

def stop(done, total):
    if sys.argv[3:] and done == total:
        raise SystemExit(9)

vd.run(Source(Path(sys.argv[1])), [Noted(), Scale()], Sink(target=Path(sys.argv[2])), workers=2, on_progress=stop)
"""


STEP = """
from tests.jobs.test_own_steps import shifted

class Step:
    def apply(self, episode):
        return shifted(episode, 1)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules, on the path of this process."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget(tmp_path)


def forget(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


def actions(root: Path) -> list[float]:
    table = pq.read_table(root / "data/chunk-000/file-000.parquet")
    return [float(row[0]) for row in table["action"].to_pylist()]


def test_a_script_defines_all_of_it_and_a_changed_helper_reuses_nothing(tmp_path: Path) -> None:
    with vd.RolloutWriter(tmp_path / "rollouts", fps=5) as writer:
        for _ in range(2):
            episode = writer.episode(task="t")
            for _ in range(3):
                episode.add(image=np.zeros((8, 8, 3), np.uint8), action=np.full(7, 0.5, np.float32), success=True)
            episode.end()
    program = tmp_path / "program"
    program.mkdir()
    (program / "script.py").write_text(SCRIPT)
    (program / "gains.py").write_text("def gain():\n    from lazy import GAIN\n    return GAIN\n")
    (program / "lazy.py").write_text("GAIN = 2\n")
    out, log = tmp_path / "out", tmp_path / "log.txt"

    def start(*more: str) -> tuple[int, int]:
        command = [sys.executable, program / "script.py", tmp_path / "rollouts", out, *more]
        environment = {"PYTHONPATH": str(ROOT), "PATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, len(log.read_text().splitlines())

    assert start("stop") == (9, 2)
    assert start("stop") == (9, 2)  # nothing is made again
    (program / "lazy.py").write_text("GAIN = 4\n")
    assert start() == (0, 4)  # everything is
    assert actions(out) == [3.0] * 6
    assert (out / "meta/checked.txt").read_text() == "by my own sink"


def test_whatever_a_step_is_of_it_runs_in_a_worker(folder: Path) -> None:
    """Of a function's inside, of a module without a file, of a file that no import finds, of a module."""

    class Local:
        def __init__(self, by: float) -> None:
            self.by = by

        def apply(self, episode: vd.Episode) -> vd.Episode:
            return shifted(episode, self.by + offset)

    offset = 0.25
    body = STEP.replace("1)", "BY)")
    memory = types.ModuleType("made_in_memory")
    exec(body + "BY = 4", memory.__dict__)
    sys.modules["made_in_memory"] = memory
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere/loaded.py").write_text(body + "BY = 8")
    spec = importlib.util.spec_from_file_location("loaded_from_a_file", folder / "elsewhere/loaded.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    (folder / "plain_module.py").write_text(body + "BY = 16")
    plain = importlib.import_module("plain_module")
    try:
        steps = (Local(1.0), memory.Step(), loaded.Step(), plain.Step())
        vd.run(OddSource(count=1), steps, vd.open_sink(folder / "out"), workers=1)
    finally:
        del sys.modules["made_in_memory"]
    want = np.float32(0.1) + np.float32(1.25) + 4 + 8 + 16
    np.testing.assert_allclose(actions(folder / "out"), want, rtol=1e-6)


def shifted(episode: vd.Episode, by: float) -> vd.Episode:
    from dataclasses import replace

    action = episode.arrays["action"]
    return replace(episode, arrays={**episode.arrays, "action": action + action.dtype.type(by)})


@dataclass(frozen=True)
class Editing:
    """An engine before whose work somebody edits a file."""

    file: Path
    text: str

    def make(self, job: Job, digest: str, parts: Sequence[Part], *, limits: Limits) -> Iterator[Part]:
        self.file.write_text(self.text)
        return LocalEngine(1).make(job, digest, parts, limits=limits)


def test_a_file_that_is_edited_while_a_job_runs_has_no_part_in_it(folder: Path) -> None:
    (folder / "edited.py").write_text(STEP)
    step = importlib.import_module("edited").Step()
    engine = Editing(folder / "edited.py", STEP.replace("1)", "2)"))
    vd.run(OddSource(count=1), (step,), vd.open_sink(folder / "old"), engine=engine)
    forget(folder)
    step = importlib.import_module("edited").Step()
    vd.run(OddSource(count=1), (step,), vd.open_sink(folder / "new"), workers=1)
    assert actions(folder / "old") == pytest.approx([1.1] * 5)
    assert actions(folder / "new") == pytest.approx([2.1] * 5)


class Holding:
    """A step with something that can't leave its process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def apply(self, episode: vd.Episode) -> vd.Episode:
        return episode


def test_a_step_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        vd.run(OddSource(count=1), (vd.steps.Length(), Holding()), vd.open_sink(tmp_path / "out"), workers=1)
    assert refused.value.code == "E021"
    assert "Holding can't be sent to a worker: TypeError: cannot pickle '_thread.lock' object" in str(
        refused.value
    )


def test_what_a_worker_cannot_load_is_one_line(folder: Path) -> None:
    (folder / "moody.py").write_text(
        "import multiprocessing\n"
        "assert multiprocessing.parent_process() is None, 'not in here'\n"
        "class Step:\n    def apply(self, e): return e\n"
    )
    step = importlib.import_module("moody").Step()
    with pytest.raises(UsageError) as refused:
        vd.run(OddSource(count=1), (step,), vd.open_sink(folder / "out"), workers=1)
    assert str(refused.value) == (
        "E021 not-portable: a worker can't load what it should run: AssertionError: not in here"
    )


class Widening:
    """A step that changes a type without a word."""

    def apply(self, episode: vd.Episode) -> Any:
        from dataclasses import replace

        arrays = {**episode.arrays, "action": episode.arrays["action"].astype(np.float64)}
        return replace(episode, arrays=arrays)


def test_a_run_ends_with_the_step_that_gives_what_nobody_described(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        run(OddSource(count=1), (Widening(),), vd.open_sink(tmp_path / "out"), workers=1)
    assert refused.value.code == "E022"
    assert "step Widening: action is float64(7,) a step, the schema says float32(7,)" in str(refused.value)


class Failing:
    """A step with a defect."""

    def apply(self, episode: vd.Episode) -> vd.Episode:
        raise KeyError("speed")


def test_a_defect_of_a_step_says_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as failed:
        run(OddSource(count=1), (Failing(),), vd.open_sink(tmp_path / "out"), workers=1)
    assert "in step Failing, of episode 0" in "".join(failed.value.__notes__)
