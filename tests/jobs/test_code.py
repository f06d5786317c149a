"""What counts as the code of a step: a change of it, or of what it uses, is another job; nothing else is."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.odd_sources import OddSource
from vla_data.jobs.code import Code, code_of
from vla_data.jobs.job import Job
from vla_data.jobs.upload import Uploaded
from vla_data.selection.merged import Member, MergedSource

FILES = {
    "helper.py": "import deep\ndef scale(x):\n    return x * deep.FACTOR\n",
    "deep.py": "FACTOR = 2\n",
    "lazy.py": "OFFSET = 1\n",
    "named.py": "NAME = 1\n",
    "box/__init__.py": "LABEL = 'a'\n",
    "box/sub.py": "from . import other\n",
    "box/other.py": "def other():\n    import later\n    return later.VALUE\n",
    "later.py": "VALUE = 1\n",
    "unused.py": "X = 1\n",
}
MAIN = """
from dataclasses import dataclass
import functools, importlib
import helper, unused
from box import sub

GAIN = 1.5
TABLE = {"a": [1, 2], "b": {3, 4}}
WORKERS = 2

def logged(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args) + 10
    return inner

def times(k):
    return lambda x: x * k

up, down = times(2), times(3)

class Base:
    LIMIT = 5
    @property
    def limit(self):
        return self.LIMIT
    @staticmethod
    def half(x):
        return x / 2

@logged
def shift(x, by=1):
    return x + by

@dataclass(frozen=True)
class Step(Base):
    option: float = 1.0
    def apply(self, episode):
        from lazy import OFFSET
        importlib.import_module("named")
        found = [c for c in (1, 2) if c in {"x", "y"}]
        return helper.scale(GAIN), TABLE, OFFSET, up(1), down(1), shift(1), self.half(self.limit), sub.other, found

def main():
    print("run", WORKERS)

step = Step()
"""


class Program:
    """A script and its modules, run anew each time as a process of its own would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.main = folder, MAIN
        for name, text in FILES.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)

    def change(self, name: str, old: str, new: str) -> None:
        text = self.main if name == "main" else (self.folder / name).read_text()
        assert old in text
        if name == "main":
            self.main = text.replace(old, new, 1)
        else:
            (self.folder / name).write_text(text.replace(old, new, 1))

    def code(self, name: str = "__main__") -> Code:
        forget(self.folder)
        importlib.invalidate_caches()
        space: dict[str, Any] = {"__name__": name}
        exec(compile(self.main, "<string>", "exec"), space)
        return code_of(space["step"])


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Program(tmp_path)
    forget(tmp_path)


def forget(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(folder)):
            del sys.modules[name]


USED = [
    ("helper.py", "x *", "x +"),
    ("deep.py", "2", "3"),
    ("lazy.py", "1", "2"),
    ("named.py", "1", "2"),
    ("box/__init__.py", "'a'", "'b'"),
    ("box/sub.py", "import other", "import other  # another comment"),
    ("box/other.py", "later.VALUE", "later.VALUE + 1"),
    ("later.py", "1", "2"),
    ("main", "GAIN = 1.5", "GAIN = 2.5"),
    ("main", "[1, 2]", "[1, 3]"),
    ("main", "{3, 4}", "{3, 5}"),
    ("main", "+ 10", "+ 11"),
    ("main", "x * k", "x + k"),
    ("main", "times(2), times(3)", "times(3), times(2)"),
    ("main", "LIMIT = 5", "LIMIT = 6"),
    ("main", "return self.LIMIT", "return -self.LIMIT"),
    ("main", "x / 2", "x / 3"),
    ("main", "by=1", "by=2"),
    ("main", "c in (1, 2)", "c in (1, 3)"),
    ("main", '{"x", "y"}', '{"x", "z"}'),
    ("main", "option: float = 1.0", "option: float = 2.0"),
    ("main", "class Step(Base)", "class Step(Base, Exception)"),
    ("main", "helper.scale(GAIN)", "helper.scale(-GAIN)"),
]


@pytest.mark.parametrize(("name", "old", "new"), USED)
def test_a_change_of_what_a_step_uses_is_another_code(program: Program, name: str, old: str, new: str) -> None:
    before = program.code()
    assert program.code() == before
    program.change(name, old, new)
    assert program.code().sha256 != before.sha256


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("unused.py", "1", "2"),
        ("main", "WORKERS = 2", "WORKERS = 4"),
        ("main", 'print("run", WORKERS)', 'print("go", WORKERS)'),
        ("main", "GAIN = 1.5", "# a remark\nGAIN = 1.5"),
        ("main", "step = Step()", "other = 7\nstep = Step()"),
    ],
)
def test_a_change_of_anything_else_of_a_script_is_not(program: Program, name: str, old: str, new: str) -> None:
    before = program.code()
    program.change(name, old, new)
    assert program.code().sha256 == before.sha256


def test_code_does_not_depend_on_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / name)
            found.append(Program(tmp_path / name).code())
            forget(tmp_path)
    assert found[0].sha256 == found[1].sha256
    assert {module.name for module in found[0].modules} == {
        *("helper", "deep", "lazy", "named", "box", "box.sub", "box.other", "later")
    }


def test_packages_count_by_name_and_version(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    program.change("helper.py", "import deep", "import click\nimport deep")
    before = program.code()
    assert before.packages == {"click": importlib.metadata.version("click")}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "99" if name == "click" else real(name))
    assert program.code().packages == {"click": "99"}
    assert program.code().sha256 == before.sha256


def test_a_folder_that_has_the_name_of_a_package_of_ours_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is a dataset that somebody has put beside ours."""
    import builders

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/steps.py").write_text("class Step:\n    def apply(self, e): return e\n")
    monkeypatch.setattr(builders, "__path__", [*builders.__path__, str(tmp_path)])
    step = importlib.import_module("builders.mine.steps").Step()
    assert "builders.mine.steps" in {module.name for module in code_of(step).modules}
    forget(tmp_path)
    assert not code_of(vd.steps.Length())


def test_our_own_steps_have_no_code_of_a_user(tmp_path: Path) -> None:
    source = MergedSource((Member("a", vd.open_source(f"ppo_rollout:{tmp_path}"), vd.recipes.ppo_sft()),))
    job = Job(source, vd.recipes.ppo_sft(), vd.open_sink(tmp_path / "x", format="rlds", name="d"), tmp_path)
    assert not job.code
    assert "code" not in job.provenance


@dataclass(frozen=True)
class Mine:
    """A step whose options may hold anything."""

    option: Any = None
    hidden: Any = field(default=None, repr=False)

    def apply(self, episode: vd.Episode) -> vd.Episode:
        return episode


class Plain:
    """A step that is no dataclass."""

    def __init__(self, option: Any) -> None:
        self.option = option

    def apply(self, episode: vd.Episode) -> vd.Episode:
        return episode


def digest(step: Any, tmp_path: Path) -> str:
    return Job(OddSource(), (step,), vd.open_sink(tmp_path / "x"), tmp_path).digest()


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("make", [Mine, Plain])
@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda _: 1, lambda _: 1.0),
        (lambda _: True, lambda _: 1),
        (lambda _: float("nan"), lambda _: float("inf")),
        (lambda _: "a", lambda _: b"a"),
        (lambda _: (1, 2), lambda _: (2, 1)),
        (lambda _: {"type": 1}, lambda _: {"type": 2}),
        (lambda _: {1: 2}, lambda _: {1: 3}),
        (lambda _: np.arange(3), lambda _: np.arange(3) + 1),
        (lambda _: np.arange(3), lambda _: np.arange(3.0)),
        (lambda _: np.arange(2000), lambda _: np.where(np.arange(2000) == 1000, 0, np.arange(2000))),
        (lambda _: np.float32(1), lambda _: np.float64(1)),
        (lambda _: lambda x: x + 1, lambda _: lambda x: x + 2),
        (lambda _: functools.partial(max, 1), lambda _: functools.partial(max, 2)),
        (lambda _: Plain(1), lambda _: Plain(2)),
        (lambda folder: written(folder / "w.txt", "1"), lambda folder: written(folder / "w.txt", "2")),
    ],
)
def test_options_of_any_kind_count(
    tmp_path: Path, make: Callable[[Any], Any], one: Callable[[Path], Any], other: Callable[[Path], Any]
) -> None:
    first = digest(make(one(tmp_path)), tmp_path)
    assert first == digest(make(one(tmp_path)), tmp_path)
    assert first != digest(make(other(tmp_path)), tmp_path)


def test_what_has_no_repr_says_where_data_lie_and_its_code_counts_all_the_same(tmp_path: Path) -> None:
    assert digest(Mine(hidden=1), tmp_path) == digest(Mine(hidden=2), tmp_path)
    assert digest(Mine(hidden=lambda: 1), tmp_path) != digest(Mine(hidden=lambda: 2), tmp_path)


def test_the_default_of_what_has_no_repr_does_not_count(tmp_path: Path) -> None:
    def made(place: str) -> Any:
        @dataclass(frozen=True)
        class Local:
            log: Path = field(default=Path(place), repr=False)

            def apply(self, episode: vd.Episode) -> vd.Episode:
                return episode

        return Local()

    assert digest(made("here"), tmp_path) == digest(made("there"), tmp_path)


def test_a_module_without_a_file_counts_by_what_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for value in (1, 2):
        module = types.ModuleType("made_up")
        exec(f"VALUE = {value}\nclass Step:\n    def apply(self, e):\n        return VALUE", module.__dict__)
        monkeypatch.setitem(sys.modules, "made_up", module)
        found.append(code_of(module.Step()))
    assert found[0].sha256 != found[1].sha256
    assert found[0].memory == ("made_up",)


def test_a_step_is_the_same_after_it_was_sent(tmp_path: Path) -> None:
    """Picklers leave something of theirs on classes."""

    class Local:
        def __init__(self) -> None:
            self.option = 1

        def apply(self, episode: vd.Episode) -> vd.Episode:
            return episode

    job = Job(OddSource(), (Local(),), vd.open_sink(tmp_path / "x"), tmp_path)
    job.pack()
    assert job.digest() == digest(Local(), tmp_path)


def test_what_holds_itself_ends() -> None:
    one = Plain(None)
    one.option = [one]
    assert code_of(one) == code_of(one)


def test_a_sink_that_uploads_is_told_as_what_it_uploads(tmp_path: Path) -> None:
    sink = vd.open_sink(tmp_path / "x")
    uploaded = Uploaded(sink, None)  # type: ignore[arg-type]
    assert Job(OddSource(), (), uploaded, tmp_path).provenance == Job(OddSource(), (), sink, tmp_path).provenance
