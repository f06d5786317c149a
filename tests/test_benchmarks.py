"""What the benchmarks keep, and what the page says of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import page, results
from benchmarks.results import Result, Table
from benchmarks.suite import CASES

TABLE = Table(["input", "ours, CPU s", "ratio"], [["P1", "1.00 (0.90-1.20)", 2.9], ["P2", None, 1234.5]], "Sides")
COMMIT = ["-c", "user.name=a", "-c", "user.email=a", "commit", "-qam", "all"]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One folder of code, committed."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code/a.py").write_text("1\n")
    for words in (["init", "-q"], ["add", "-A"], COMMIT):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr("benchmarks.harness.REPOSITORY", tmp_path)
    return tmp_path


def test_result_is_kept_as_it_is_and_old_once_its_code_is_another(repository: Path) -> None:
    commit, code = results.state(["code"])
    result = Result("P1", commit, code, [TABLE], machine={"cpu": "x", "cores": 2}, settings={"repeats": 5})
    results.save(result, repository / "kept")
    assert results.load("P1", repository / "kept") == result
    assert results.load("P2", repository / "kept") is None
    assert not result.is_old()
    (repository / "code/a.py").write_text("2\n")
    assert results.state(["code"])[0] == f"{commit}+"
    subprocess.run(["git", "-C", str(repository), *COMMIT], check=True)
    assert result.is_old()


def test_page_says_when_it_was_measured_and_what_is_old() -> None:
    old = Result(
        "P1", "abc", {"benchmarks": "0"}, [TABLE], machine={"cpu": "x", "cores": 2, "load_average": [9.0]}
    )
    text = page.page([("One (P1)", "About it.", old), ("Two (P2)", "Of that.", None)])
    assert "Measured at `abc`; x, 2 cores, load 9. **Old: the code has changed since.**" in text
    assert "| P1 | 1.00 (0.90-1.20) | 2.90 |\n| P2 | - | 1,234 |" in text
    assert "## Two (P2)\n\nOf that.\n\nNot measured yet." in text


def test_every_case_can_be_run_and_speaks_of_code_that_is_there() -> None:
    root = Path(page.__file__).parents[1]
    for case in CASES:
        assert (root / "benchmarks" / f"{case.module}.py").is_file()
        assert [folder for folder in case.code if not (root / folder).exists()] == []


def test_command_is_measured_with_what_outlives_it(tmp_path: Path) -> None:
    burn = "import time; t = time.process_time()\nwhile time.process_time() < t + 0.2: pass"
    script = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}]); sys.exit(3)"
    out = tmp_path / "result"
    command = [sys.executable, "-m", "benchmarks.tree", str(out), "--", sys.executable, "-c", script]
    subprocess.run(command, check=True, cwd=Path(page.__file__).parents[1])
    facts = results.json.loads(out.read_text())
    assert facts["exit_code"] == 3
    assert facts["cpu_seconds"] > 0.2
    assert facts["process_mb"] > 1
