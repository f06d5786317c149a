"""That supervised fine-tuning learns, in the nightly run; the figures are printed in a line."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd  # noqa: E402
from training_adapters.collect_expert import collect_expert  # noqa: E402
from training_adapters.envs.table import Place  # noqa: E402
from training_adapters.evaluate import Evaluation  # noqa: E402
from training_adapters.runs import Run  # noqa: E402
from training_adapters.sft.config import SFTConfig  # noqa: E402
from training_adapters.sft.program import Program as Sft  # noqa: E402

pytestmark = pytest.mark.nightly


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_random_policy_learns_from_aligned_episodes_of_the_expert(tmp_path: Path, seed: int) -> None:
    """The first run, `examples/first_run.sh`: each seed has its own episodes and its own random policy."""
    torch.set_num_threads(1)
    began = time.process_time()
    collect_expert(Place.of("tabletop"), tmp_path / "rollouts", episodes=300, seed=seed, images=False)
    _align(tmp_path / "rollouts", tmp_path / "aligned")
    before, after = (_taught(tmp_path, "aligned", seed=seed, updates=updates).success for updates in (0, 1_500))
    spent = time.process_time() - began
    print(f"\nSFT on the aligned expert, seed {seed}: {before} -> {after}, {spent:.0f} CPU s")
    assert before.apart(after)
    assert after.rate > 0.5


def _align(rollouts: Path, out: Path) -> None:
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=0.002, rot_thresh=None)
    vd.run(vd.open_source(rollouts, fps=20.0), steps, vd.open_sink(out, format="lerobot"))


def _taught(folder: Path, dataset: str, *, seed: int, updates: int = 1_500) -> Evaluation:
    """A fresh policy after so many updates on a dataset in a folder."""
    form, colon, name = dataset.rpartition(":")
    config = SFTConfig(dataset=f"{form}{colon}{folder / name}", seed=seed, updates=updates)
    run = Run(folder / f"{name}-sft-{updates}", config, out=io.StringIO())
    program = Sft(config, run)
    program.train()
    return program.evaluate()
