"""Interpreters with stock lerobot and PyTorch: ``scripts/test`` makes them, ``LEROBOT_PYTHON`` names others.

done = ask(PYTHONS[0], JUDGES / "lerobot_judge.py", str(root))   # as subprocess.run does, without its start
seen = said(done, "JUDGE ")                                      # the JSON of the line that begins so
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.paths import ROOT, TESTS

JUDGES = TESTS / "judges"
_OWN = [str(ROOT / f".venv-lerobot-{version}/bin/python") for version in ("0.4.4", "0.6.1")]
PYTHONS = [
    p for p in os.environ.get("LEROBOT_PYTHON", os.pathsep.join(_OWN)).split(os.pathsep) if Path(p).exists()
]

needed = pytest.mark.skipif(not PYTHONS, reason="no interpreter with lerobot; scripts/test makes one")


def has_ours(python: str) -> bool:
    """Whether that interpreter could also import this package."""
    return subprocess.run([python, "-c", "import deflate, pytest"], capture_output=True).returncode == 0


@dataclass(frozen=True, kw_only=True)
class Question:
    """A script that an interpreter with lerobot runs. ``name`` is its file, unless there is ``code``."""

    name: str
    words: tuple[str, ...]
    code: str = ""
    input: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@functools.cache
def _server(python: str) -> subprocess.Popen[str]:
    """`tests/judges/server.py`, which lives as long as this process."""
    home = tempfile.TemporaryDirectory()
    server = subprocess.Popen(
        [python, str(JUDGES / "server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HOME": home.name, "PYTHONPATH": str(ROOT)},
    )

    def end() -> None:
        server.kill()
        server.wait()
        home.cleanup()

    atexit.register(end)
    return server


def ask(
    python: str, script: Path | str, *words: str, input: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a judge, a file or code, in a process of its own forked from one that has lerobot loaded."""
    name, code = (str(script), "") if isinstance(script, Path) else ("-c", script)
    question = Question(name=name, words=words, code=code, input=input, environment=environment)
    server = _server(python)
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asdict(question)) + "\n")
    server.stdin.flush()
    line = server.stdout.readline()
    assert line, f"the server of {python} has died with {server.wait()}"
    return subprocess.CompletedProcess(args=[name, *words], **json.loads(line))


def said(done: subprocess.CompletedProcess[str], mark: str) -> Any:
    """The JSON of the one line that begins with the mark."""
    assert done.returncode == 0, done.stderr[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(mark)]
    return json.loads(line.removeprefix(mark))


def judged(
    python: str, root: Path, *words: str, judge: str = "lerobot_judge", fresh: bool = False
) -> dict[str, Any]:
    """What a judge of `tests/judges` says of the dataset in a folder; ``fresh``: in an interpreter of its own, for
    what lerobot reads once when it is imported.
    """
    script, given = JUDGES / f"{judge}.py", (str(root), *words)
    if fresh:
        done = subprocess.run([python, str(script), *given], capture_output=True, text=True, timeout=280)
    else:
        done = ask(python, script, *given)
    seen: dict[str, Any] = said(done, "JUDGE ")
    return seen
