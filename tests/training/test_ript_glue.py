"""RIPT with other projects: TorchRL's groups, ript-vla's statistics, LeRobot's diffusion policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from tests.training.small import demonstrations  # noqa: E402
from training_adapters.ript.branches import check_guided, guided_losses  # noqa: E402
from training_adapters.ript.groups import Outcome, compare  # noqa: E402
from training_adapters.ript.rollouts import Rollout  # noqa: E402
from training_adapters.ript.stats import read_stats, write_stats  # noqa: E402
from vla_data.errors import DataError  # noqa: E402


def played(rewards: list[list[float]]) -> tuple[list[Outcome], list[Rollout]]:
    random = np.random.default_rng(0)
    outcomes, rollouts = [], []
    for group, row in enumerate(rewards):
        for member, reward in enumerate(row):
            steps = int(random.integers(2, 6))
            outcomes.append(
                Outcome(
                    task="t",
                    init_hash=f"start {group}",
                    policy_version=1,
                    identity=(1, 0, group, member),
                    reward=reward,
                )
            )
            rollouts.append(
                Rollout(
                    task="t",
                    facts={},
                    state=random.normal(size=(steps, 3)).astype(np.float32),
                    action=random.normal(size=(steps, 2)).astype(np.float32),
                    reward=np.zeros(steps),
                    success=bool(reward),
                    begins=np.array([0]),
                    tokens=np.zeros((1, 0), np.int64),
                    mask=np.zeros((1, 0), np.bool_),
                    log_prob=np.zeros(1, np.float32),
                )
            )
    return outcomes, rollouts


def test_torchrl_compares_the_same_groups() -> None:
    """The same groups are kept, and its advantage is ours by a factor that follows from the group."""
    llm = pytest.importorskip("torchrl.objectives.llm")
    from training_adapters.ript.torchrl import GROUP, trajectories

    rewards = [[1.0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    outcomes, rollouts = played(rewards)
    order = np.random.default_rng(1).permutation(len(outcomes))
    outcomes, rollouts = [outcomes[at] for at in order], [rollouts[at] for at in order]
    transform = llm.MCAdvantage(4, prompt_key=GROUP, trajectory_return="sum", keep_return_bounds=(0, 1))
    kept: dict[int, list[Any]] = {}
    for trajectory in trajectories(outcomes, rollouts):
        written = transform.inv(trajectory)
        if written is not None:
            kept[int(written[GROUP][0])] = [
                (float(step["next", "reward"]), float(step["advantage"]), step["observation"].numpy())
                for step in written
                if bool(step["next", "done"])
            ]
    assert transform.dropped_groups == 2
    assert len(kept) == 2
    ours = compare(outcomes)
    by_last = {
        rollout.state[-1].tobytes(): (outcome, float(advantage))
        for outcome, advantage, rollout in zip(
            ours.outcomes,
            ours.advantages,
            [rollouts[outcomes.index(outcome)] for outcome in ours.outcomes],
            strict=True,
        )
    }
    for members in kept.values():
        returns = np.array([reward for reward, _, _ in members])
        factor = 4 / 3 * returns.std(ddof=1)
        for reward, advantage, state in members:
            outcome, wanted = by_last[state.tobytes()]
            assert outcome.reward == reward
            assert advantage * factor == pytest.approx(wanted, abs=1e-5)


def test_a_buffer_of_torchrl_takes_them() -> None:
    llm = pytest.importorskip("torchrl.objectives.llm")
    data = pytest.importorskip("torchrl.data")
    from training_adapters.ript.torchrl import GROUP, trajectories

    outcomes, rollouts = played([[1.0, 0], [0, 1]])
    transform = llm.MCAdvantage(2, prompt_key=GROUP, trajectory_return="sum", keep_return_bounds=(0, 1))
    buffer = data.ReplayBuffer(storage=data.LazyTensorStorage(100), transform=transform, batch_size=8)
    for trajectory in trajectories(outcomes, rollouts):
        buffer.extend(trajectory)
    assert len(buffer) == sum(len(rollout.action) for rollout in rollouts)
    assert "advantage" in buffer.sample()


def test_statistics_of_ript_vla(tmp_path: Path) -> None:
    history = {"ab12": [True, False], "cd34": [True]}
    write_stats(tmp_path / "rollout_stats.json", history)
    assert json.loads((tmp_path / "rollout_stats.json").read_text()) == {"ab12": [1, 0], "cd34": [1]}
    assert read_stats(tmp_path / "rollout_stats.json") == history


def test_statistics_of_openpi_ript(tmp_path: Path) -> None:
    path = tmp_path / "rollout_stats.json"
    facts = {
        "rollout_stats": {"(0, 'ab12')": [1, 0], "(3, 'ab12')": [0]},
        "rollout_skip_cnt": {},
        "timestamp": 1.5,
    }
    path.write_text(json.dumps(facts))
    assert read_stats(path, task=3) == {"ab12": [False]}
    with pytest.raises(DataError, match=r"E004 .*in two tasks"):
        read_stats(path)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"a": 1}',
        '{"a": [2]}',
        '{"a": ["1"]}',
        '{"rollout_stats": {"ab12": [1]}}',
        '{"rollout_stats": {"(0, \'a\')": [null]}}',
        "not json",
    ],
)
def test_statistics_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stats.json").write_text(text)
    with pytest.raises(DataError, match="E141"):
        read_stats(tmp_path / "stats.json")


def test_lerobots_diffusion_learns_by_the_guided_loss() -> None:
    pytest.importorskip("lerobot.policies.diffusion.modeling_diffusion")
    from training_adapters.lerobot.guided import GuidedDiffusion, small_config

    torch.manual_seed(0)
    model = GuidedDiffusion(small_config(state=19, dim=7, horizon=8))
    batch = demonstrations().batch(torch.arange(16))
    batch["action_is_pad"] = torch.zeros(16, 8, dtype=torch.bool)
    check_guided(model, batch)
    advantages = torch.tensor([1.0, -1.0] * 8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    seen = []
    for number in range(30):
        generator = torch.Generator().manual_seed(number % 3)
        loss = guided_losses(model, batch, advantages, alpha=0.1, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert np.mean(seen[-3:]) < 0.5 * np.mean(seen[:3])


def test_padding_of_lerobots_diffusion_counts_nothing() -> None:
    pytest.importorskip("lerobot.policies.diffusion.modeling_diffusion")
    from training_adapters.lerobot.guided import GuidedDiffusion, small_config
    from training_adapters.policies.asked import INDICATOR

    torch.manual_seed(0)
    model = GuidedDiffusion(small_config(state=19, dim=7, horizon=8))
    batch = demonstrations().batch(torch.arange(4)) | {INDICATOR: torch.ones(4, dtype=torch.int64)}
    noise, time = model.noise(batch, torch.Generator().manual_seed(0))
    everything = model.loss(batch, noise, time)
    assert everything.shape == (4,)
    nothing = model.loss(batch | {"action_is_pad": torch.ones(4, 8, dtype=torch.bool)}, noise, time)
    assert torch.equal(nothing, torch.zeros(4))
    pad = torch.zeros(4, 8, dtype=torch.bool)
    pad[:, 4:] = True
    halves = [model.loss(batch | {"action_is_pad": each}, noise, time) for each in (pad, ~pad)]
    torch.testing.assert_close((halves[0] + halves[1]) / 2, everything)
