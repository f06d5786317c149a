"""The token policy: a ratio of 1 before the first update, gradients, masks, and no chunk that is malformed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

from tests.training.small import SLOTS, demonstrations, policy  # noqa: E402
from training_adapters.policies.config import PolicyConfig  # noqa: E402
from training_adapters.policies.scaling import Scaling  # noqa: E402
from training_adapters.policies.value import ActorCritic  # noqa: E402
from training_adapters.policies.words import Vocabulary  # noqa: E402
from vla_data.errors import DataError, UsageError  # noqa: E402

ROWS = torch.arange(24)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_ratio_is_one_before_the_first_update(temperature: float) -> None:
    """Sampled with a cache, scored in one go: the same tokens under the same mask and temperature."""
    actor, batch = policy(updates=20), demonstrations().batch(ROWS)
    chunk = actor.act(batch, generator(), temperature=temperature)
    scores = actor.score(batch, chunk.tokens, chunk.mask, temperature=temperature)
    assert (scores.log_prob - chunk.log_prob).abs().max() < 1e-5
    assert chunk.log_prob.sum(dim=1).max() < 0


def test_untrained_policies_write_whole_chunks() -> None:
    chunk = policy().act(demonstrations().batch(ROWS), generator())
    assert not chunk.malformed.any()
    assert torch.isfinite(chunk.actions).all()
    assert chunk.actions.shape == (24, 8, 7)


def test_the_chunk_is_what_its_tokens_say() -> None:
    actor = policy()
    chunk = actor.act(demonstrations().batch(ROWS), generator())
    ids = [row[: int(mask.sum()) - 1].tolist() for row, mask in zip(chunk.tokens, chunk.mask, strict=True)]
    wanted = actor.scaling.actions(torch.from_numpy(actor.tokenizer.decode(ids).actions))
    assert torch.equal(chunk.actions, wanted)


def test_encoded_demonstrations_have_a_probability() -> None:
    actor, batch = policy(), demonstrations().batch(ROWS)
    tokens, mask = actor.encode(batch["action"])
    assert torch.isfinite(actor.score(batch, tokens, mask).log_prob).all()


def test_tokens_that_cannot_be_are_refused_and_not_scored() -> None:
    actor, batch = policy(), demonstrations().batch(ROWS[:1])
    tokens, mask = actor.encode(batch["action"])
    tokens[0, 0] = actor.tokenizer.grammar.end_token  # an end before its numbers
    with pytest.raises(DataError, match=r"E202 .*of chunk 0 cannot stand at place 0"):
        actor.score(batch, tokens, mask)


def test_scores_do_not_depend_on_what_comes_after_or_beside() -> None:
    """The causal mask, and rows of a batch: a chunk scores alone as it does among others, padded."""
    actor, batch = policy(updates=5), demonstrations().batch(ROWS)
    chunk = actor.act(batch, generator())
    every = actor.score(batch, chunk.tokens, chunk.mask).log_prob
    length = int(chunk.mask[3].sum())
    alone = actor.score(demonstrations().batch(ROWS[3:4]), chunk.tokens[3:4, :length], chunk.mask[3:4, :length])
    torch.testing.assert_close(alone.log_prob[0], every[3, :length], atol=1e-5, rtol=0)


def test_the_same_generator_gives_the_same_chunks() -> None:
    actor, batch = policy(), demonstrations().batch(ROWS)
    first, second = (actor.act(batch, generator(5)) for _ in range(2))
    assert torch.equal(first.tokens, second.tokens)
    assert not torch.equal(first.tokens, actor.act(batch, generator(6)).tokens)


def test_temperature_zero_is_the_likeliest_token() -> None:
    actor, batch = policy(updates=5), demonstrations().batch(ROWS)
    first, second = (actor.act(batch, generator(seed), temperature=0.0) for seed in (1, 2))
    assert torch.equal(first.tokens, second.tokens)


def test_log_prob_depends_on_prompt_and_state() -> None:
    """Upstream scores with "Perform the task." and a state of zeros, whatever the chunk was sampled for."""
    actor, batch = policy(updates=20), demonstrations().batch(ROWS)
    chunk = actor.act(batch, generator())
    own = actor.score(batch, chunk.tokens, chunk.mask).log_prob.sum(dim=1)
    other_state = {**batch, "observation.state": torch.zeros_like(batch["observation.state"])}
    other_task = {**batch, "task": ["push the red block forward"] * 24}
    for other in (other_state, other_task):
        assert (actor.score(other, chunk.tokens, chunk.mask).log_prob.sum(dim=1) - own).abs().max() > 1e-3


def test_gradient_of_the_loss_agrees_with_finite_differences() -> None:
    actor = policy(updates=3).double()
    batch = demonstrations().batch(ROWS[:4])
    batch["observation.state"] = batch["observation.state"].double()
    actor.loss(batch).sum().backward()
    weight = actor.out.weight
    for place in [(0, 0), (5, 3), (40, 60)]:
        step, found = 1e-6, []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * step
                found.append(float(actor.loss(batch).sum()))
                weight[place] -= sign * step
        assert float(weight.grad[place]) == pytest.approx((found[0] - found[1]) / (2 * step), abs=1e-7)


def test_entropy_of_a_policy_is_that_of_its_distribution() -> None:
    actor, batch = policy(), demonstrations().batch(ROWS[:1])
    with torch.no_grad():
        actor.out.weight.zero_()
        actor.out.bias.zero_()
    tokens, mask = actor.encode(batch["action"])
    allowed = int((actor.tokenizer.grammar.next[0] >= 0).sum())
    assert float(actor.score(batch, tokens, mask).entropy[0, 0].detach()) == pytest.approx(
        np.log(allowed), abs=1e-5
    )


def test_the_value_does_not_move_the_actor() -> None:
    model = ActorCritic(policy())
    model.value(demonstrations().batch(ROWS)).sum().backward()
    assert all(parameter.grad is None for parameter in model.actor_backbone.parameters())


def test_unknown_words_are_refused() -> None:
    batch = demonstrations().batch(ROWS[:1])
    with pytest.raises(DataError, match="not trained on the word 'purple'"):
        policy().act({**batch, "task": ["reach the purple block"]}, generator())


def test_words_have_numbers_of_their_own() -> None:
    """A hash of words gave "the" and "blue" one number."""
    words = Vocabulary.of(["reach the red block", "lift the blue block"])
    encoded = words.encode(["reach the red block", "lift the blue block"])
    assert len({*encoded[0].tolist(), *encoded[1].tolist()}) == 6
    assert len(words) == 7


def test_scales_of_objects_are_the_same() -> None:
    scaling = Scaling(19, 7, SLOTS)
    scaling.fit(demonstrations().state, demonstrations().action.reshape(-1, 7))
    objects = scaling.state_scale[6:18].reshape(3, 4)
    assert torch.equal(objects[0], objects[1])


def test_an_element_that_never_moved_stays() -> None:
    """Scaled by nothing, a policy's noise would turn the hand, to states hundreds of deviations off."""
    scaling = Scaling(1, 2)
    scaling.fit([[0.0], [1.0]], [[-0.05, 0.25], [0.05, 0.25]])
    assert scaling.actions(torch.tensor([[1.0, 1.0]], dtype=torch.float64)).tolist() == [[0.05, 0.25]]
    with pytest.raises(DataError, match="element 1 of an action moves"):
        scaling.scaled(torch.tensor([[0.0, 0.5]]))


def test_states_are_bounded() -> None:
    scaling = Scaling(1, 1)
    scaling.fit([[0.0], [0.001]], [[-1.0], [1.0]])
    assert scaling.state(torch.tensor([[100.0]])).tolist() == [[5.0]]


def test_a_stored_form_of_another_version_is_refused() -> None:
    facts = PolicyConfig(state=1, horizon=2, dim=3, words=("a",)).to_json()
    assert PolicyConfig.of(facts).to_json() == facts
    with pytest.raises(UsageError, match="unknown keys: layrs"):
        PolicyConfig.of({**facts, "layrs": 2})
