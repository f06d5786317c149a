"""Claims of learning: hours of them, in the nightly run. Each prints its figures in a line."""

from __future__ import annotations

import io
import time
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd  # noqa: E402
from training_adapters.ppo.config import PRESETS  # noqa: E402
from training_adapters.ppo.program import Program  # noqa: E402
from training_adapters.runs import Run  # noqa: E402
from training_adapters.sft.config import SFTConfig  # noqa: E402
from training_adapters.sft.program import Program as Sft  # noqa: E402

pytestmark = pytest.mark.nightly


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_chunk_ppo_raises_success_from_a_weak_start(tmp_path: Path, seed: int) -> None:
    """From 25 to 55 % the intervals of before and after are apart; each seed has its own demonstrations."""
    torch.set_num_threads(1)
    config = replace(PRESETS["laptop"], seed=seed, total_timesteps=1_000_000)
    began = time.process_time()
    with Program(config, Run(tmp_path / "run", config, out=io.StringIO())) as program:
        before = program.evaluate()
        program.train()
        after = program.evaluate()
    spent = time.process_time() - began
    print(f"\nchunk PPO, seed {seed}: {before.success} -> {after.success}, {spent:.0f} CPU s")
    assert 0.2 < before.success.rate < 0.6
    assert before.success.apart(after.success)
    assert after.success.rate > before.success.rate
    assert after.malformed.count == 0


@pytest.mark.timeout(7200)
def test_the_circle_keeps_what_ppo_learnt(tmp_path: Path) -> None:
    """A fresh policy on the aligned rollouts of PPO, beside one on the rollouts as they are."""
    torch.set_num_threads(1)
    config, rollouts = PRESETS["laptop"], tmp_path / "rollouts"
    with Program(config, Run(tmp_path / "ppo", config, out=io.StringIO()), record=rollouts) as program:
        program.train()
        ppo = program.evaluate()
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=0.002, rot_thresh=None)
    vd.run(vd.open_source(rollouts, fps=20.0), steps, vd.open_sink(tmp_path / "aligned", format="lerobot"))
    found = {}
    for name, dataset in (("aligned", str(tmp_path / "aligned")), ("unaligned", f"ppo_rollout:{rollouts}")):
        options = SFTConfig(dataset=dataset, seed=5)
        sft = Sft(options, Run(tmp_path / f"{name}-sft", options, out=io.StringIO()))
        sft.train()
        found[name] = sft.evaluate()
    shares = ", ".join(f"{name} {one.success}" for name, one in found.items())
    print(f"\nthe circle: PPO {ppo.success}; SFT {shares}")
    assert found["aligned"].success.interval[1] >= ppo.success.interval[0]
