"""No process that a run starts imports from the folder that somebody is in: workers, their tracker, a lister."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vla_data as vd
from tests.rollouts import rollout, save

_TRAPS = ("signal", "multiprocessing", "numpy", "pandas", "sitecustomize", "vla_data", "pickle", "usercustomize")


def _traps(folder: Path) -> Path:
    """A module of each name that says when it is imported."""
    folder.mkdir()
    log = folder.parent / "imported"
    for number, name in enumerate(_TRAPS):
        text = f"open({str(log)!r}, 'a').write({name!r})\n"
        if number % 2:
            (folder / f"{name}.py").write_text(text)
        else:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(text)
    return log


@pytest.mark.parametrize("way", ["script", "prompt", "module"])
def test_no_process_imports_from_the_current_folder(way: str, tmp_path: Path) -> None:
    log = _traps(tmp_path / "in")
    if way == "prompt":  # "" is on its path: what it imports itself, it imports from here
        (tmp_path / "in/pandas").rename(tmp_path / "pandas") if (tmp_path / "in/pandas").exists() else None
        (tmp_path / "in/pandas.py").unlink(missing_ok=True)
    save(tmp_path / "in", "0.npz", rollout(2, size=(8, 8)))
    if way == "prompt":  # the parent's own imports from here are its user's; it is in the folder afterwards only
        text = (
            "import os, sys, vla_data as vd, vla_data.jobs.job, vla_data.jobs.pool\n"
            "import converters.rollouts.source, converters.lerobot.sink\n"
            "source, sink = vd.open_source('in'), vd.open_sink('out', format='lerobot', images='jpeg')\n"
            "source, sink = map(vla_data.jobs.job.absolute, (source, sink))\n"
            "import vla_data.files.tables, simplejpeg, pyarrow.compute\n"
            "assert '' in sys.path\n"
            "os.chdir('in')\n"
            "import multiprocessing.popen_spawn_posix, multiprocessing.resource_tracker\n"
            "vd.run(source, (), sink, workers=1)\n"
        )
        words = [sys.executable, "-c", text]
        here = tmp_path
        environment = {**os.environ, "PYTHONPATH": str(Path(vd.__file__).parents[1])}
        found = subprocess.run(words, cwd=here, env=environment, capture_output=True, text=True, check=False)
    else:
        words = [str(Path(sys.executable).with_name("vla-data"))]
        if way == "module":
            words = [sys.executable, "-P", "-m", "vla_data"]
        words += ["convert", ".", "../out", "--to", "lerobot", "--images", "jpeg", "--workers", "1"]
        environment = {**os.environ, "PYTHONPATH": str(Path(vd.__file__).parents[1])}
        found = subprocess.run(
            words, cwd=tmp_path / "in", env=environment, capture_output=True, text=True, check=False
        )
    assert (tmp_path / "out/meta/info.json").is_file(), found.stderr
    assert not log.exists(), log.read_text()


def test_steps_of_somebody_at_a_prompt_run_in_workers(tmp_path: Path) -> None:
    """A module of the current folder that the parent has imported is found there, and nothing else is."""
    log = _traps(tmp_path / "in")
    (tmp_path / "in/pandas.py").unlink(missing_ok=True)
    save(tmp_path / "in", "0.npz", rollout(2, size=(8, 8)))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").write_text("")
    (tmp_path / "mine/helper.py").write_text("def same(episode):\n    return episode\n")
    (tmp_path / "mine/steps.py").write_text(
        "import dataclasses\nfrom mine.helper import same\n"
        "@dataclasses.dataclass(frozen=True)\nclass Nothing:\n"
        "    def apply(self, episode):\n        return same(episode)\n"
    )
    text = (
        "import os, vla_data as vd, vla_data.jobs.job, vla_data.jobs.pool, mine.steps\n"
        "import converters.rollouts.source, converters.lerobot.sink\n"
        "source, sink = vd.open_source('in'), vd.open_sink('out', format='lerobot', images='jpeg')\n"
        "source, sink = map(vla_data.jobs.job.absolute, (source, sink))\n"
        "import vla_data.files.tables, simplejpeg, pyarrow.compute\n"
        "os.chdir('in')\n"
        "import multiprocessing.popen_spawn_posix, multiprocessing.resource_tracker\n"
        "vd.run(source, (mine.steps.Nothing(),), sink, workers=1)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(vd.__file__).parents[1])}
    found = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (tmp_path / "out/meta/info.json").is_file(), found.stderr
    assert not log.exists(), log.read_text()
