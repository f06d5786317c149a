"""Training in RDT's slots: the way there and back, what is refused by name, and a run in its smallest form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("mujoco")

import torch

from tests.training.rdt_sets import OwnWayBack, datasets
from training_adapters import checkpoints
from training_adapters.cli import cli
from training_adapters.envs.table import Place
from training_adapters.envs.tabletop import LIMITS
from training_adapters.policies.flow import SLOTS, FlowConfig, FlowPolicy
from training_adapters.rdt.batches import RdtBatches
from training_adapters.rdt.config import PRESETS, RdtConfig
from training_adapters.rdt.player import UnifiedPlayer
from training_adapters.rdt.program import Program
from training_adapters.runs import Run
from vla_data import formats
from vla_data.actions import convert
from vla_data.errors import UsageError, VerifyError

SMALL = {**PRESETS["tabletop"], "updates": 6, "batch_size": 4, "save_every": 3, "log_every": 3, "eval_episodes": 9}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return datasets(tmp_path_factory.mktemp("rdt"), episodes=18, seed=0)


def program(dataset: Path, folder: Path, **options: Any) -> Program:
    verify = options.pop("verify", True)
    config = RdtConfig(**{**SMALL, "dataset": str(dataset), **options})
    return Program(config, Run(folder, config), verify=verify)


def batches(dataset: Path, **options: Any) -> RdtBatches:
    config = RdtConfig(**{**SMALL, "dataset": str(dataset), **options})
    return RdtBatches(config, formats.open_source(config.dataset))


def test_actions_are_metres_in_their_slots(sets: tuple[Path, Path]) -> None:
    made = batches(sets[0])
    assert np.flatnonzero(made.vectors.action_mask).tolist() == [10, *range(30, 39)]
    assert np.flatnonzero(made.vectors.state_mask).tolist() == [10, 30, 31, 32]
    actions = made.actions()
    assert 0.04 < np.abs(actions[:, 30:33]).max() < 0.05 + 1e-7  # float32
    assert set(np.unique(actions[:, 10])) == {0.0, 1.0}
    assert np.allclose(actions[:, 33:39], [1, 0, 0, 0, 1, 0])


def test_the_way_back_is_exact(sets: tuple[Path, Path]) -> None:
    source = formats.open_source(sets[0])
    first = source.read(source.episodes()[0])
    made = batches(sets[0])
    whole = made.dataset.episodes[0]
    back = convert(whole.action, made.vectors.action_convention, made.vectors.source, saturate=True)
    want = first.arrays["action"]
    assert np.abs(back[:, :6] - want[:, :6]).max() < 1e-7
    assert (np.sign(back[:, 6]) == np.sign(want[:, 6])).all()


def test_batches_are_made_by_their_number(sets: tuple[Path, Path]) -> None:
    one, other = batches(sets[0], hiding=0.5, snr=40.0), batches(sets[0], hiding=0.5, snr=40.0)
    other(3)
    first, again = one(7), other(7)
    assert first.keys() == again.keys()
    for name, value in first.items():
        assert torch.equal(value, again[name]) if isinstance(value, torch.Tensor) else value == again[name]
    assert first["observation.state"].shape == (4, SLOTS + 19)
    assert first["action"].shape == (4, 8, SLOTS)
    many = [one(number) for number in range(30)]
    assert any(rate == 0 for batch in many for rate in batch["ctrl_freq"].tolist())
    assert any(task == "" for batch in many for task in batch["task"])
    assert any(not mask.any() for batch in many for mask in batch["state_mask"])


def test_a_wrong_unit_is_refused_by_name(sets: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(VerifyError, match=r"E601.*wrong_unit: action: right moves are up to 1 in a step"):
        program(sets[1], tmp_path / "run")
    assert not list((tmp_path / "run").glob("step_*"))


def test_a_run_is_evaluated_in_its_environment(sets: tuple[Path, Path], tmp_path: Path) -> None:
    made = program(sets[0], tmp_path / "run")
    folder = made.train()
    found = made.evaluate()
    assert found.success.total == 9
    saved = checkpoints.load(folder)
    player = saved.player()
    assert isinstance(player, UnifiedPlayer)
    place = Place.of("tabletop")
    seen = torch.zeros(3, 19)
    batch = {"observation.state": seen, "task": ["reach the red block"] * 3}
    one, two = (who.act(batch, torch.Generator().manual_seed(1)) for who in (player, made.player()))
    assert torch.equal(one.actions, two.actions)
    assert one.actions.shape == (3, 8, 7)
    assert set(one.actions[..., 6].unique().tolist()) <= {-1.0, 1.0}
    own = OwnWayBack(player).act(batch, torch.Generator().manual_seed(1))
    assert torch.allclose(own.actions, one.actions * torch.from_numpy(LIMITS.astype(np.float64)))
    assert place.row.features["observation.state"].convention


def test_a_killed_run_goes_on_to_the_same(sets: tuple[Path, Path], tmp_path: Path) -> None:
    whole = program(sets[0], tmp_path / "whole").train()
    begun = program(sets[0], tmp_path / "cut")
    begun.run.log = stop  # type: ignore[method-assign,assignment]
    with pytest.raises(KeyboardInterrupt):
        begun.train()
    config = begun.config
    again = Program(config, Run(tmp_path / "cut", config, resume=True)).train()
    one, two = (checkpoints.load(folder).params for folder in (whole, again))
    assert all(np.array_equal(one[name], two[name]) for name in one)


def stop(update: int, metrics: Any, *, show_it: bool = True) -> None:
    if update == 6:
        raise KeyboardInterrupt


def test_the_flow_leads_to_what_was_shown() -> None:
    """One chunk alone is learnt, and comes back from any noise."""
    torch.manual_seed(0)
    config = FlowConfig(state=SLOTS, horizon=4, dim=SLOTS, words=("go",), moves=(10, 30), euler=8)
    policy = FlowPolicy(config)
    shown = torch.zeros(2, 4, SLOTS, dtype=torch.float64)
    shown[0, :, 30], shown[1, :, 30], shown[1, :, 10] = 0.05, -0.03, 1.0
    policy.scaling.fit(np.zeros((2, SLOTS)), shown.reshape(-1, SLOTS).numpy())
    fixed = {"observation.state": torch.zeros(32, SLOTS), "state_mask": torch.ones(32, SLOTS)}
    batch = {**fixed, "ctrl_freq": torch.full((32,), 20.0), "task": ["go"] * 32}
    optimiser = torch.optim.Adam(policy.parameters(), lr=3e-3)
    draws = torch.Generator().manual_seed(0)
    for _ in range(250):
        noise, time = torch.randn(32, 4, 2, generator=draws), torch.rand(32, generator=draws)
        loss = policy.loss({**batch, "action": shown[:1].expand(32, -1, -1), "noise": noise, "time": time}).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    chunk = policy.act(batch, draws)
    assert (chunk.actions[..., 30] - 0.05).abs().mean() < 0.01
    assert (chunk.actions[..., 10]).abs().mean() < 0.15
    assert torch.all(chunk.actions[..., 31] == 0)


def test_the_command_as_it_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    from tests.hdf5_files import LIBERO

    done = CliRunner().invoke(
        cli,
        [
            *("rdt", "--dataset", str(LIBERO), "--config", "debug", "--exp-name", "rdt", "--runs", str(tmp_path)),
            *("--set", "updates=2", "--set", "batch_size=2"),
        ],
        catch_exceptions=False,
        standalone_mode=False,
    )
    assert done.output.splitlines()[-1].startswith("checkpoint ")
    facts = json.loads((tmp_path / "rdt" / "step_2" / "metadata.json").read_text())
    assert facts["kind"] == "flow"
    assert facts["policy"]["images"] == 6
    with pytest.raises(UsageError, match="E231"):
        checkpoints.load(tmp_path / "rdt").player()
