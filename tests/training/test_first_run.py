"""The README's first learning run, in its smallest form: every command of it as it is typed there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd
from training_adapters.collect_expert import EXECUTED, collect_expert
from training_adapters.envs.table import Place
from training_adapters.envs.tabletop import LIMITS, Tabletop
from vla_data.errors import UsageError

ROOT = Path(__file__).parents[2]
COMMANDS = {"vla-train": "training_adapters.cli", "vla-data": "vla_data"}


def example(folder: Path, script: str, target: str, **sizes: object) -> str:
    """What a script of ``examples`` prints, with the commands that it types."""
    commands = folder / "bin"
    commands.mkdir()
    for name, module in COMMANDS.items():
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (commands / name).chmod(0o755)
    path = f"{commands}{os.pathsep}{os.environ['PATH']}"
    small = {name: str(value) for name, value in sizes.items()}
    done = subprocess.run(
        [ROOT / "examples" / script, target],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **small, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_run_end_to_end(tmp_path: Path) -> None:
    """Expert, align, sft and eval; the policy that learnt says its dataset more surely than a random one can."""
    printed = example(tmp_path, "first_run.sh", "first", EPISODES=9, UPDATES=50, STARTS=9, SEED=3)
    assert "random, on held-out starts:" in printed
    for name, updates in (("random", 0), ("learnt", 50)):
        step = tmp_path / "first" / name / f"step_{updates}"
        facts = json.loads((step / "eval.json").read_text())
        assert (facts["success"]["total"], facts["starts_seed"], facts["chunks"] > 0) == (9, 10_000, True)
    (line,) = (tmp_path / "first" / "learnt" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] < 4.5  # of the 161 tokens each as likely as another it is 5.1
    aligned = vd.open_source(tmp_path / "first" / "aligned")
    convention = aligned.schema(aligned.read(next(iter(aligned.episodes())))).features["action"].convention
    assert (convention["translation_unit"], convention["rotation"]) == ("m", "rotvec")
    assert convention["reference"] == "current_state"


def test_the_circle_end_to_end(tmp_path: Path) -> None:
    """PPO, its episodes, two datasets, two policies, and their results on the same starts."""
    ppo = "total_timesteps=600 demos=9 demo_updates=5 lanes=8 num_chunks_per_update=48"
    sizes = {"PPO": ppo, "EPISODES": 5, "UPDATES": 4, "STARTS": 9, "SOLVED": 0, "SEED": 3}
    example(tmp_path, "circle.sh", "circle", **sizes)
    for name in ("ppo", "aligned-sft", "unaligned-sft"):
        for temperature in (0, 1):
            facts = json.loads((tmp_path / "circle" / f"{name}-{temperature}.json").read_text())
            assert (facts["success"]["total"], facts["temperature"]) == (9, temperature)
            assert facts["starts_seed"] == 10_000
    assert len(list(vd.open_source(tmp_path / "circle/rollouts").episodes())) == 5
    frames = {name: _frames(tmp_path / "circle" / name) for name in ("rollouts", "aligned")}
    assert 0 < frames["aligned"] <= frames["rollouts"]


def _frames(folder: Path) -> int:
    source = vd.open_source(folder)
    return sum(len(source.read(ref)) for ref in source.episodes())


def test_the_expert_is_recorded_as_it_was(tmp_path: Path) -> None:
    """``action.executed`` played from the recorded start leads through the recorded states; ``action`` is without
    the noise, which is on the translation alone."""
    import numpy as np

    from training_adapters.envs.starts import draw_start

    collect_expert(Place.of("tabletop"), tmp_path / "rollouts", episodes=4, seed=7, images=True)
    source = vd.open_source(tmp_path / "rollouts")
    episodes = list(source.episodes())
    assert len(episodes) == 4
    random, env = np.random.default_rng((7, 4)), Tabletop()
    start = draw_start(random, task=0)
    episode = source.read(episodes[0])
    arrays = episode.arrays
    assert source.schema(episode).fps == 20.0
    seen, _ = env.reset(options={"initial_state": start})
    for state, executed in zip(arrays["observation.state"], arrays[EXECUTED], strict=True):
        assert np.array_equal(seen["agent_pos"], state)
        seen, _, terminated, _, _ = env.step(executed)
    assert terminated
    assert bool(arrays["next.success"][-1])
    assert not arrays["next.success"][:-1].any()
    differ = arrays["action"] != arrays[EXECUTED]
    assert differ[:, :3].any()
    assert not differ[:, 3:].any()
    assert (np.abs(arrays["action"]) <= LIMITS).all()


def test_an_environment_without_an_expert_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    row = replace(Place.of("tabletop").row, expert="")
    with pytest.raises(UsageError, match=r"E231 .*no scripted expert"):
        collect_expert(Place("other", row), tmp_path / "rollouts", episodes=1)
    assert not (tmp_path / "rollouts").exists()
