"""The policy of bins, guidance, and the critic of bins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from training_adapters import checkpoints
from training_adapters.fast.cosine import matrix
from training_adapters.policies.bins import BinPolicy, new_bin_policy
from training_adapters.policies.critic import BinCritic, CriticConfig
from training_adapters.policies.guided import Guided
from training_adapters.recap.indicator import Indicator
from vla_data.advantages import ValueBins
from vla_data.errors import DataError, UsageError

TASKS = ("reach the red block", "lift the blue block")
WORDS = ("advantage:", "block", "blue", "lift", "negative", "positive", "reach", "red", "the")
ASK = Indicator(target="opentau").prompt("")


def data(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    steps = np.linspace(0, 1, 8)[:, None]
    slow = random.normal(size=(count, 1, 7)) + random.normal(size=(count, 1, 7)) * steps
    slow[..., 3:5] = 0.25  # never moves
    return random.normal(size=(count, 19)).astype(np.float32), slow.astype(np.float32)


def policy() -> BinPolicy:
    torch.manual_seed(0)
    states, actions = data()
    return new_bin_policy(states, actions, WORDS, slots=(6, 3, 4))


def batch(count: int = 6) -> dict[str, Any]:
    states, actions = data(count)
    return {
        "observation.state": torch.from_numpy(states),
        "task": [TASKS[row % 2] for row in range(count)],
        "action": torch.from_numpy(actions),
        "frame_index": torch.arange(count),
    }


def test_a_chunk_comes_back_within_half_a_bin_of_each_coefficient() -> None:
    made, given = policy(), batch()
    assert made.config.moves == (0, 1, 2, 5, 6)
    scaled = made.scaling.scaled(given["action"]) / 3  # within the bounds also once it is rounded
    tokens = made.encode(made.scaling.actions(scaled))
    assert tokens.shape == (6, 15)
    back = made.decode(tokens)
    assert torch.all(back[..., 3:5] == 0.25)
    assert torch.equal(made.encode(back), tokens)
    moves = list(made.config.moves)
    lowest = torch.from_numpy(matrix(8)[:3].copy())
    was, now = (lowest @ one[..., moves] for one in (scaled, made.scaling.scaled(back)))
    half = 0.5 * (2 / 20) * 8**0.5
    assert (was - now).abs().max() <= half + 1e-9
    assert (was - now).abs().max() > half / 2


def test_what_never_moved_is_refused() -> None:
    made, given = policy(), batch()
    given["action"][2, 3, 4] = 1.0
    with pytest.raises(DataError, match="element 4"):
        made.encode(given["action"])


def test_scores_of_what_was_drawn_are_what_they_were() -> None:
    made, given = policy(), batch()
    for temperature in (1.0, 0.5):
        chunk = made.act(given, torch.Generator().manual_seed(0), temperature=temperature)
        scores = made.score(given, chunk.tokens, chunk.mask, temperature=temperature)
        assert torch.allclose(scores.log_prob, chunk.log_prob, atol=1e-6)
        assert chunk.actions.shape == (6, 8, 7)
        assert not chunk.malformed.any()
    assert torch.allclose(
        made.loss(given), -made.score(given, made.encode(given["action"]), chunk.mask).log_prob.mean(1)
    )


def test_the_gradient_is_that_of_finite_differences() -> None:
    made, given = policy().double(), batch()
    weight = made.layers[-1].bias
    made.loss(given).sum().backward()
    for at in (0, 100, 200):
        with torch.no_grad():
            weight[at] += 1e-6
            up = made.loss(given).sum()
            weight[at] -= 2e-6
            down = made.loss(given).sum()
            weight[at] += 1e-6
        assert weight.grad[at].item() == pytest.approx(((up - down) / 2e-6).item(), abs=1e-6)


def test_guidance_is_away_from_what_is_done_unasked() -> None:
    made, given = policy(), batch()
    with torch.no_grad():
        unasked, asked = made.log_probs(given), Guided(made, ASK).log_probs(given)
        told = made.log_probs({**given, "task": [task + ASK for task in given["task"]]})
        assert torch.equal(asked, told)
        guided = Guided(made, ASK, beta=3.0).log_probs(given)
    wanted = unasked + 3.0 * (told - unasked)
    assert torch.allclose(guided, wanted - wanted.logsumexp(-1, keepdim=True), atol=1e-5)
    assert torch.allclose(guided.exp().sum(-1), torch.ones(6, 15), atol=1e-5)


def test_values_are_means_over_bins() -> None:
    torch.manual_seed(0)
    critic = BinCritic(CriticConfig(state=19, horizon=8, dim=7, words=WORDS, slots=(6, 3, 4), limit=48))
    with torch.no_grad():
        value = critic.value(batch())
        probabilities = critic.logits(batch()).softmax(-1).double().numpy()
    assert np.allclose(value.numpy(), ValueBins().expect(probabilities))
    late = {**batch(), "frame_index": torch.full((6,), 47)}
    assert not torch.equal(critic.value(late), value)


def test_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    made, given = policy(), batch()
    checkpoints.save(tmp_path / "plain", made, {})
    checkpoints.save(tmp_path / "asked", made, {"asked": {"words": ASK, "beta": 3.0}})
    critic = BinCritic(CriticConfig(state=19, horizon=8, dim=7, words=WORDS, limit=48))
    checkpoints.save(tmp_path / "critic", critic, {})
    with torch.no_grad():
        assert torch.equal(checkpoints.load(tmp_path / "plain").bins().log_probs(given), made.log_probs(given))
        read = checkpoints.load(tmp_path / "critic").critic()
        assert torch.equal(read.value(given), critic.value(given))
    assert isinstance(checkpoints.load(tmp_path / "plain").player(), BinPolicy)
    guided = checkpoints.load(tmp_path / "asked").player()
    assert isinstance(guided, Guided)
    with pytest.raises(UsageError, match="is a critic; wanted is a policy of bins"):
        checkpoints.load(tmp_path / "critic").bins()
    with pytest.raises(UsageError, match="is a policy of bins; wanted is a policy of FAST tokens"):
        checkpoints.load(tmp_path / "plain").policy()
