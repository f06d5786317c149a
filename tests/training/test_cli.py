"""``vla-train`` as it is typed: every program end to end in its smallest form, and one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd
from training_adapters.cli import cli
from vla_data.errors import UsageError, VlaDataError

ROOT = Path(__file__).parents[2]
SMALL = ("demos=9", "demo_updates=5", "total_timesteps=600", "eval_episodes=9")


def run(*words: str) -> str:
    """What a command prints, in this process."""
    done = CliRunner().invoke(cli, list(words), catch_exceptions=False, standalone_mode=False)
    return done.output


def typed(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "training_adapters.cli", *words],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=250,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of chunk PPO that was recorded."""
    folder = tmp_path_factory.mktemp("runs")
    options = [word for pair in SMALL for word in ("--set", pair)]
    run(
        *("ppo", "--config", "debug", "--exp-name", "first", "--no-wandb", "--runs", str(folder)),
        *("--record", str(folder / "rollouts"), *options),
    )
    return folder


def test_ppo_writes_a_run(trained: Path) -> None:
    run_folder = trained / "first"
    steps = sorted(path.name for path in run_folder.iterdir() if path.name.startswith("step_"))
    assert len(steps) == 1
    result = json.loads((run_folder / "result.json").read_text())
    assert result["before"]["success"]["total"] == result["after"]["success"]["total"] == 9
    rows = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["steps"] >= 600


def test_ppo_records_its_episodes(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "first" / "metrics.jsonl").read_text().splitlines()]
    source = vd.open_source(trained / "rollouts", fps=20.0)
    episodes = list(source.episodes())
    assert len(episodes) == rows[-1]["episodes"]
    columns = source.read(episodes[-1]).arrays
    assert {"observation.state", "action"} <= columns.keys()


def test_eval_writes_its_result(trained: Path) -> None:
    printed = run("eval", "--checkpoint", str(trained / "first"), "--episodes", "9")
    assert printed.splitlines()[-1].split()[:2][0] == "all"
    (path,) = (trained / "first").glob("step_*/eval.json")
    facts = json.loads(path.read_text())
    assert (facts["success"]["total"], facts["env"], facts["starts_seed"]) == (9, "tabletop", 10_000)
    assert facts["checkpoint"] == str(path.parent)


def test_the_circle(trained: Path, tmp_path: Path) -> None:
    """Rollouts of training, aligned, train a fresh policy, which goes on in PPO."""
    from vla_data import recipes

    steps = recipes.ppo_sft(min_success_steps=0, pos_thresh=0.002, rot_thresh=None)
    vd.run(
        vd.open_source(trained / "rollouts", fps=20.0), steps, vd.open_sink(tmp_path / "aligned", format="lerobot")
    )
    where = ("--runs", str(tmp_path))
    small = ("--set", "updates=4", "--set", "eval_episodes=9")
    run("sft", "--dataset", str(tmp_path / "aligned"), "--exp-name", "sft", *where, *small)
    facts = json.loads((tmp_path / "sft" / "step_4" / "metadata.json").read_text())
    assert (facts["program"], facts["dataset"]) == ("sft", str(tmp_path / "aligned"))
    options = [word for pair in SMALL for word in ("--set", pair)]
    run("ppo", "--config", "debug", "--exp-name", "more", "--start", str(tmp_path / "sft"), *where, *options)
    assert json.loads((tmp_path / "more" / "config.json").read_text())["start"] == str(tmp_path / "sft")


def test_sft_goes_on_where_it_stopped(trained: Path, tmp_path: Path) -> None:
    import io

    import numpy as np

    from training_adapters import params
    from training_adapters.runs import Run
    from training_adapters.sft.config import SFTConfig
    from training_adapters.sft.program import Program

    def program(name: str, *, resume: bool = False) -> Program:
        config = SFTConfig(
            dataset=f"ppo_rollout:{trained / 'rollouts'}", updates=6, batch_size=7, accumulate=2, eval_episodes=0
        )
        return Program(config, Run(tmp_path / name, config, resume=resume, out=io.StringIO()), resume=resume)

    whole = program("whole").train()
    program("cut").train(until=4)
    resumed = program("cut", resume=True).train()
    first, second = params.read(whole / "params"), params.read(resumed / "params")
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert first.keys() == second.keys()


def test_collect_adds_episodes(trained: Path, tmp_path: Path) -> None:
    printed = run("collect", "--checkpoint", str(trained / "first"), "--episodes", "3", str(tmp_path / "more"))
    assert printed.startswith("3 episodes, 0 dropped")
    assert len(list((tmp_path / "more").glob("*.npz"))) == 3


@pytest.mark.parametrize("words", [[], ["--expert", "--checkpoint", "x"], ["--expert", "--temperature", "0"]])
def test_collect_is_told_who_plays(tmp_path: Path, words: list[str]) -> None:
    with pytest.raises(UsageError, match="E001"):
        run("collect", *words, str(tmp_path / "rollouts"))
    assert not (tmp_path / "rollouts").exists()


def test_recordings_say_what_their_actions_are(trained: Path, tmp_path: Path) -> None:
    """Of PPO and of a policy that is played: the same meaning, and no image where none is asked for."""
    played = str(tmp_path / "played")
    run("collect", "--checkpoint", str(trained / "first"), "--episodes", "1", "--no-images", played)
    recorded, without = (_schema(folder) for folder in (trained / "rollouts", played))
    assert recorded.features["action"].convention == without.features["action"].convention
    assert without.features["action"].convention["reference"] == "current_state"
    assert without.fps == 20.0
    assert "observation.images.primary" in recorded.features
    assert "observation.images.primary" not in without.features


def _schema(folder: str | Path) -> vd.Schema:
    source = vd.open_source(folder)
    return source.schema(source.read(next(iter(source.episodes()))))


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--set", "learning_rat=1"], "E001", "there is no option learning_rat"),
        (["--set", "learning_rate"], "E001", "is not KEY=VALUE"),
        (["--set", "learning_rate=fast"], "E001", "learning_rate is 'fast', not a number"),
        (["--set", "num_chunks_per_update=33"], "E001", "lanes cannot share"),
        (["--config", "fulll"], "E003", "neither a preset"),
        (["--start", "nowhere"], "E003", "not a checkpoint and has none inside"),
        (["--start", "x", "--from-scratch"], "E001", "not both"),
        (["--env", "tabltop"], "E001", "known are gym_aloha"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, words: list[str], code: str, says: str) -> None:
    with pytest.raises(VlaDataError, match=says) as caught:
        run("ppo", "--exp-name", "x", "--runs", str(tmp_path), *words)
    assert caught.value.code == code


def test_a_missing_simulator_is_one_line(tmp_path: Path) -> None:
    missing = {"gym_aloha": "AlohaTransferCube-v0", "gym_pusht": "PushT-v0", "metaworld": "reach-v3"}
    absent = [name for name in missing if not _is_there(name)]
    for name in absent:
        with pytest.raises(UsageError, match=f"E006 .*{name} needs the package: pip install"):
            run("ppo", "--exp-name", name, "--runs", str(tmp_path), "--env", f"{name}/{missing[name]}")


def _is_there(name: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(name) is not None


def test_a_missing_dataset_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(VlaDataError, match="E00"):
        run("sft", "--exp-name", "x", "--runs", str(tmp_path), "--dataset", str(tmp_path / "nothing"))


def test_a_file_of_options(tmp_path: Path) -> None:
    from training_adapters.ppo.config import PPOConfig
    from training_adapters.settings import settings_of

    path = tmp_path / "mine.toml"
    path.write_text("learning_rate = 1e-4\nratio = 'token'\n")
    made: Any = settings_of(PPOConfig, {}, str(path), ("seed=7", "target_kl=null"), {"env": None})
    assert (made.learning_rate, made.ratio, made.seed, made.target_kl) == (1e-4, "token", 7, None)


def test_errors_of_the_command_are_lines_with_exit_codes(tmp_path: Path) -> None:
    done = typed("eval", "--checkpoint", "nothing", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vla-train: E003 not-found: nothing is not a checkpoint")
    assert done.stderr.count("\n") == 1


def test_help_needs_no_heavy_package() -> None:
    script = (
        "import sys\nfrom training_adapters.cli import cli\n"
        "cli.main(['ppo', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'mujoco', 'gymnasium', 'accelerate'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, env=environment)
