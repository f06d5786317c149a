"""That a policy that sees learns from aligned episodes of the expert, in the nightly run; figures are in a line.

The recipe is `docs/training.md`'s: two cameras of 64 pixels, 500 episodes, 2,000 updates; the control is the same
without the label of the second loss. Without it the policy learns too, and less: both are compared at update 900,
and in the end.
"""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd  # noqa: E402
from training_adapters.collect_expert import collect_expert  # noqa: E402
from training_adapters.envs.features import TARGET_POSITION  # noqa: E402
from training_adapters.envs.table import Place  # noqa: E402
from training_adapters.evaluate import Evaluation  # noqa: E402
from training_adapters.runs import Run  # noqa: E402
from training_adapters.sft.config import SFTConfig  # noqa: E402
from training_adapters.sft.program import Program  # noqa: E402

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]


EARLY = 900
"""Updates."""


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns_with_the_label_and_less_without(tmp_path: Path, seed: int) -> None:
    """Each seed has its own episodes, and its own random policy; 180 held-out starts."""
    torch.set_num_threads(1)
    place = Place.of("tabletop")
    collect_expert(place, tmp_path / "rollouts", episodes=500, seed=seed, cameras=place.row.pixels["cameras"])
    steps = vd.recipes.ppo_sft(min_success_steps=1, pos_thresh=0.002, rot_thresh=None)
    source = vd.open_source(tmp_path / "rollouts", fps=20.0)
    vd.run(source, steps, vd.open_sink(tmp_path / "aligned", format="lerobot"))
    taught, plain = (_taught(tmp_path, label, seed=seed) for label in (TARGET_POSITION, ""))
    assert taught[1].success.rate >= 0.8
    for with_label, without in zip(taught, plain, strict=True):
        assert with_label.success.rate > without.success.rate
        assert with_label.success.apart(without.success)


def _taught(folder: Path, label: str, *, seed: int) -> tuple[Evaluation, Evaluation]:
    """What it achieves at update `EARLY` and in the end."""
    config = SFTConfig(
        dataset=str(folder / "aligned"), obs="pixels", auxiliary=label, seed=seed, updates=2_000, eval_episodes=180
    )
    began = time.process_time()
    program = Program(config, Run(folder / f"run-{bool(label)}", config, out=io.StringIO()))
    program.train(until=EARLY)
    early = program.evaluate()
    program.train()
    found, spent = program.evaluate(), time.process_time() - began
    print(f"\npixels, seed {seed}, {'with' if label else 'without'} the label, {spent:.0f} CPU s:")
    print(f"  {early.success} after {EARLY} updates, {found.success} in the end")
    return early, found
