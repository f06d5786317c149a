"""LeRobot's own Pi0-FAST network, small and random, as a policy: what it played is what it scores."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lerobot", reason="pip install 'lerobot==0.4.4'")
pytest.importorskip("transformers", reason="pip install 'transformers==4.57.6'")

from training_adapters.fast import FastTokenizer  # noqa: E402
from training_adapters.policies.scaling import Scaling  # noqa: E402

HORIZON, DIM, STATE, SIDE = 4, 3, 5, 28
TASKS = ["reach the red block", "lift_the blue block", "push"]


class Letters:
    """A tokenizer of texts with a token a byte, at the beginning of PaliGemma's vocabulary."""

    bos, eos, size = 2, 1, 257152

    def encode(self, text: str) -> list[int]:
        return [3 + byte for byte in text.encode()]


@pytest.fixture(scope="module")
def core() -> Iterator[Any]:
    """LeRobot's class, small; it asks whether transformers was changed by a module that only says so."""
    import transformers.models.siglip as siglip
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.pi0_fast import modeling_pi0_fast as theirs
    from lerobot.policies.pi0_fast.configuration_pi0_fast import PI0FastConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    patch = pytest.MonkeyPatch()
    check = types.ModuleType("transformers.models.siglip.check")
    check.check_whether_transformers_replace_is_installed_correctly = lambda: True  # type: ignore[attr-defined]
    patch.setitem(sys.modules, check.__name__, check)
    patch.setattr(siglip, "check", check, raising=False)
    patch.setattr(theirs, "get_gemma_config", lambda variant: theirs.GemmaConfig(32, 2, 64, 2, 1, 16))
    whole = CONFIG_MAPPING["paligemma"]

    def small() -> Any:
        vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": SIDE}
        found = whole(vision_config={"model_type": "siglip_vision_model", "patch_size": 14, **vision})
        return found

    patch.setattr(theirs, "CONFIG_MAPPING", {"paligemma": small})
    torch.manual_seed(0)
    config = PI0FastConfig(
        chunk_size=HORIZON,
        n_action_steps=HORIZON,
        max_state_dim=STATE,
        image_resolution=(SIDE, SIDE),
        input_features={"observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE))},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (DIM,))},
        device="cpu",
    )
    made = theirs.PI0FastPytorch(config)
    # It asks for a projection of 2,048 numbers whatever the width is.
    made.paligemma_with_expert.paligemma.model.multi_modal_projector.linear = torch.nn.Linear(32, 32)
    yield made
    patch.undo()


@pytest.fixture(scope="module")
def policy(core: Any) -> Any:
    from training_adapters.lerobot.pi0_fast import Pi0Fast

    random = np.random.default_rng(0)
    chunks = np.clip(random.normal(0, 0.4, (64, HORIZON, DIM)).cumsum(axis=1), -1, 1)
    tokenizer = FastTokenizer.fit(chunks, scale=8.0, vocab_size=256)
    scaling = Scaling(STATE, DIM)
    scaling.fit(random.normal(size=(50, STATE)), chunks.reshape(-1, DIM))
    return Pi0Fast(core, tokenizer, text=Letters(), scaling=scaling, cameras=("top",))


@pytest.fixture(scope="module")
def batch() -> dict[str, Any]:
    random = np.random.default_rng(1)
    return {
        "observation.state": torch.from_numpy(random.normal(size=(3, STATE)).astype(np.float32)),
        "observation.images.top": torch.from_numpy(random.integers(0, 256, (3, 20, SIDE, 3), dtype=np.uint8)),
        "task": TASKS,
        "action": torch.from_numpy(random.uniform(-0.5, 0.5, (3, HORIZON, DIM))),
    }


@pytest.mark.parametrize("temperature", [1.0, 0.7, 0.0])
def test_what_it_played_is_what_it_scores(policy: Any, batch: dict[str, Any], temperature: float) -> None:
    played = policy.act(batch, torch.Generator().manual_seed(3), temperature=temperature)
    assert not played.malformed.any()
    assert torch.isfinite(played.actions).all()
    assert played.actions.shape == (3, HORIZON, DIM)
    with torch.no_grad():
        scores = policy.score(batch, played.tokens, played.mask, temperature=temperature)
    torch.testing.assert_close(scores.log_prob, played.log_prob, atol=1e-5, rtol=0)


def test_the_distribution_is_the_networks_own_among_what_may_follow(policy: Any, batch: dict[str, Any]) -> None:
    """LeRobot's training forward on the same tokens, row by row without padding, restricted by hand."""
    tokens, mask = policy.grammar.encoded(policy.tokenizer, policy.scaling.scaled(batch["action"]))
    with torch.no_grad():
        scores = policy.score(batch, tokens, mask)
    net, text = policy.core, Letters()
    for row, task in enumerate(TASKS):
        ids = tokens[row][mask[row]].tolist()
        bins = np.digitize(
            policy.scaling.state(batch["observation.state"])[row].numpy(), np.linspace(-1, 1, 257)[:-1]
        )
        said = f"Task: {task.replace('_', ' ')}, State: {' '.join(str(one - 1) for one in bins)};\n"
        prompt = torch.tensor([[text.bos, *text.encode(said)]])
        end = policy.grammar.end
        theirs = [text.encode("|")[0] if one == end else text.size - 129 - one for one in ids]
        told = torch.tensor([[text.bos, *text.encode("Action: "), *theirs]])
        image = policy._image(batch["observation.images.top"][row : row + 1])
        heard: list[Any] = []
        hook = net.paligemma_with_expert.paligemma.lm_head.register_forward_hook(
            lambda _, __, out, heard=heard: heard.append(out)
        )
        with torch.no_grad():
            places = [torch.ones_like(one, dtype=torch.bool) for one in (prompt, told)]
            net([image], [torch.ones(1, dtype=torch.bool)], prompt, places[0], told, places[1])
        hook.remove()
        logits = heard[0][0, -len(ids) - 1 : -1]
        for place, (one, logit) in enumerate(zip(ids, logits, strict=True)):
            state = policy.tokenizer.grammar.follow(ids[:place])
            allowed = [t for t in range(end + 1) if policy.tokenizer.grammar.next[state, t] >= 0]
            columns = [text.encode("|")[0] if t == end else text.size - 129 - t for t in allowed]
            among = torch.log_softmax(logit[columns], dim=-1)
            assert float(scores.log_prob[row, place]) == pytest.approx(float(among[allowed.index(one)]), abs=1e-4)


def test_ppo_makes_what_was_good_likelier(policy: Any, batch: dict[str, Any]) -> None:
    played = policy.act(batch, torch.Generator().manual_seed(4))
    advantage = torch.tensor([1.0, -1.0, 1.0])
    optimiser = torch.optim.SGD(policy.parameters(), lr=1e-2)

    def ratios() -> Any:
        scores = policy.score(batch, played.tokens, played.mask)
        return (scores.log_prob - played.log_prob).sum(dim=1)

    before = ratios()
    assert before.abs().max() < 1e-4  # the ratio of chunks is 1 before the first update
    loss = -(before.exp() * advantage).mean()
    loss.backward()
    optimiser.step()
    with torch.no_grad():
        after = ratios()
    assert ((after > 0) == (advantage > 0)).all()
    optimiser.zero_grad()


def test_it_learns_a_demonstration(policy: Any, batch: dict[str, Any]) -> None:
    optimiser = torch.optim.Adam(policy.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        loss = policy.loss(batch).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
