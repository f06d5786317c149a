"""Intervals against their formula's tables, evaluations, recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd  # noqa: E402
from tests.training.small import policy  # noqa: E402
from training_adapters.collect import collect  # noqa: E402
from training_adapters.envs.table import Place  # noqa: E402
from training_adapters.evaluate import Evaluation, evaluate, table  # noqa: E402
from training_adapters.intervals import Share  # noqa: E402
from vla_data.errors import UsageError  # noqa: E402

PLACE = Place.of("tabletop")


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
        (78, 240, 0.269, 0.387),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals(count: int, total: int, low: float, high: float) -> None:
    """The last is example 7 of R. G. Newcombe, 1998, Stat. Med. 17, 857-872, method 3."""
    found = Share(count, total).interval
    assert found == pytest.approx((low, high), abs=6e-4)


def test_intervals_are_apart_when_they_share_no_point() -> None:
    assert Share(78, 240).apart(Share(113, 240))
    assert not Share(78, 240).apart(Share(90, 240))
    assert not Share(5, 10).apart(Share(5, 10))


def test_an_evaluation_counts_each_start_once() -> None:
    found = evaluate(policy(), PLACE, episodes=18, horizon=8, lanes=5)
    assert found.success.total == 18
    assert {task: share.total for task, share in found.tasks.items()} == dict.fromkeys(found.tasks, 2)
    assert len(found.tasks) == 9
    assert found.malformed.count == 0
    assert found.malformed.total >= 18 * 6 - 6 * found.success.count
    assert Evaluation.of(found.to_json()) == found
    assert table(found)[-1].split()[0] == "all"


def test_an_evaluation_says_the_same_again() -> None:
    first, second = (evaluate(policy(), PLACE, episodes=9, horizon=8, seed=1).to_json() for _ in range(2))
    assert first == second


def test_no_episodes_are_refused() -> None:
    with pytest.raises(UsageError, match="episodes is 0"):
        evaluate(policy(), PLACE, episodes=0, horizon=8)


def test_collected_episodes_are_read_back_as_they_happened(tmp_path: Path) -> None:
    """Replaying the recorded actions from the recorded state gives the recorded states."""
    actor = policy()
    longest = actor.tokenizer.grammar.longest
    done = collect(actor, PLACE, tmp_path / "rollouts", episodes=5, horizon=8, tokens=longest, lanes=3)
    assert (done.written, done.dropped, done.success.total) == (5, 0, 5)
    source = vd.open_source(tmp_path / "rollouts", fps=20.0)
    episodes = [source.read(ref) for ref in source.episodes()]
    assert len(episodes) == 5
    assert sum(map(len, episodes)) == done.steps
    for episode in episodes:
        states, actions = episode.arrays["observation.state"], episode.arrays["action"]
        assert states.shape == (len(episode), 19)
        assert np.abs(actions[:, :3]).max() <= 0.05 + 1e-6
        env = PLACE.make()
        begin = next(b for b in starts_of(5) if np.array_equal(b.reset(env)[0]["agent_pos"], states[0]))
        begin.reset(env)
        solved = bool(episode.arrays["next.success"].any())
        facts = {"init_hash": begin.init_hash, "policy_version": 0, "success": solved}
        assert episode.meta["episode_metadata"] == facts
        tokens, mask = episode.arrays["chunk.tokens"], episode.arrays["chunk.tokens_mask"]
        assert episode.arrays["chunk.step"].tolist() == [t % 8 for t in range(len(episode))]
        batch = {"observation.state": torch.from_numpy(states[:1]), "task": [episode.task]}
        length = int(mask[0].sum())
        row, there = torch.from_numpy(tokens[:1, :length].copy()), torch.from_numpy(mask[:1, :length].copy())
        scores = actor.score(batch, row, there)
        assert float(scores.log_prob.detach().sum()) == pytest.approx(
            float(episode.arrays["chunk.log_prob"][0]), abs=1e-4
        )
        for t in range(len(episode) - 1):
            assert np.array_equal(env.step(actions[t])[0]["agent_pos"], states[t + 1])


def starts_of(count: int) -> list:  # type: ignore[type-arg]
    random = np.random.default_rng((0, 3))
    return [PLACE.draw(random) for _ in range(count)]
