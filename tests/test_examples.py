"""What lies in `examples` runs: a program a workflow on the shipped episodes, and the notebook, cell by cell."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT

EXAMPLES = ROOT / "examples"
NOTEBOOK = EXAMPLES / "first_look.ipynb"
SAYS = {
    "ppo_to_sft": ["kept          46", "Damages     0"],
    "chunk_ppo": ["ep4.npz: rewards [0. 0. 0. 0.]", "0.93"],
    "ript": ["drop_ep4.npz: reward 0, advantage -1.00", "noise_ep1.npz: reward 1, advantage +0.50"],
    "recap": ["positive is >= 0.009300: 32 of 105 frames", "put carrot on plate\nAdvantage: positive"],
    "rdt": ["kept         29", "Damages", "on the way back: 5.55"],
}
"""Program -> some of what it prints."""


def cells() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(NOTEBOOK.read_text())["cells"]
    return found


@pytest.mark.parametrize("name", ["chunk_ppo", "ript"])
def test_the_numbers_of_a_workflow(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert [words for words in SAYS[name] if words not in printed] == []


@pytest.mark.nightly
@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_as_it_is_typed(name: str, tmp_path: Path) -> None:
    words = [sys.executable, str(EXAMPLES / f"{name}.py"), str(tmp_path / "out")]
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert [said for said in SAYS[name] if said not in done.stdout] == []


def test_the_notebook_is_one_and_has_no_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in cells()]
    assert len(set(ids)) == len(ids)
    for cell in cells():
        assert cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.mark.nightly
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kernel would: every cell in one namespace, and what its last line gives can be shown."""
    monkeypatch.chdir(EXAMPLES)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for cell in cells():
        if cell["cell_type"] != "code":
            continue
        *before, last = cell["source"].rpartition("\n")
        exec(compile("".join(before), NOTEBOOK.name, "exec"), names)
        if " = " in last.partition("(")[0] or last.startswith(("print", "import")):
            exec(last, names)
        else:
            shown.append(eval(last, names))
    assert any(hasattr(one, "_repr_html_") and "srcdoc" in one._repr_html_() for one in shown)
    assert shown[-1] == (120, 160, 3)
