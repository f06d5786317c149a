"""Advantages on their way to a loss, and losses: published numbers, every option, and what upstream gets wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

from tests.training.small import SLOTS, demonstrations  # noqa: E402
from training_adapters.cloning import new_flow_policy  # noqa: E402
from training_adapters.policies.asked import INDICATOR, AskedFlow  # noqa: E402
from training_adapters.ppo.loss import clipped  # noqa: E402
from training_adapters.ript.branches import (  # noqa: E402
    branches,
    check_branches,
    check_guided,
    guided_losses,
)
from training_adapters.ript.config import ELSEWHERE, PRESETS, RIPTConfig  # noqa: E402
from training_adapters.ript.processor import AdvantageProcessor  # noqa: E402
from vla_data.advantages import losses  # noqa: E402
from vla_data.errors import UsageError  # noqa: E402

GIVEN = np.array([-2, -0.5, 0, 1, 4])
RLOO = np.array([2 / 3, -2 / 3, -2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"normalization": "none"}, [-2, -0.5, 0, 1, 4]),
        ({"normalization": "standard"}, [-1.118034, -0.447214, -0.223607, 0.223607, 1.565248]),
        ({"normalization": "standard", "ddof": 0}, [-1.25, -0.5, -0.25, 0.25, 1.75]),
        ({"normalization": "zero_mean"}, [-2.5, -1, -0.5, 0.5, 3.5]),
        ({"normalization": "min_max"}, [0, 0.25, 1 / 3, 0.5, 1]),
        ({"normalization": "robust"}, [-2, -0.5, 0, 1, 4]),
        ({"clipping": "symmetric", "clip_value": 1.0}, [-1, -0.5, 0, 1, 1]),
        (
            {"normalization": "standard", "clipping": "symmetric", "clip_value": 1.0},
            [-1, -0.447214, -0.223607, 0.223607, 1],
        ),
        ({"clipping": "asymmetric", "clip_value": 3.0, "clip_value_negative": 1.0}, [-1, -0.5, 0, 1, 3]),
        ({"clipping": "quantile", "quantile_range": (0.25, 0.75)}, [-0.5, -0.5, 0, 1, 1]),
        ({"clipping": "sigma", "clip_value": 1.0}, [-1.736068, -0.5, 0, 1, 2.736068]),
        ({"negative_handling": "relu"}, [0, 0, 0, 1, 4]),
        ({"negative_handling": "clamp"}, [0, 0, 0, 1, 4]),
        ({"negative_handling": "abs"}, [2, 0.5, 0, 1, 4]),
        ({"negative_handling": "softplus"}, [0.126928, 0.474077, 0.693147, 1.313262, 4.01815]),
        ({"negative_handling": "shift"}, [0.001, 1.501, 2.001, 3.001, 6.001]),
        ({"negative_handling": "exp"}, np.exp([-2, -0.5, 0, 1, 4])),
    ],
)
def test_every_option(options: dict[str, Any], wanted: list[float]) -> None:
    processor = AdvantageProcessor(**({"clipping": "none"} | options))
    np.testing.assert_allclose(processor(GIVEN).advantages, wanted, atol=1e-6)


def test_advantages_of_groups_that_are_half_solved() -> None:
    standard = AdvantageProcessor(normalization="standard", clipping="none")(RLOO).advantages
    np.testing.assert_allclose(standard, 0.866025 * np.sign(RLOO), atol=1e-6)


def test_robust_has_the_true_median() -> None:
    """With torch's lower one the deviation is 0, and [1.333, 0, 0, 1.333] is left: nothing is below 0."""
    robust = AdvantageProcessor(normalization="robust", clipping="none")(RLOO).advantages
    np.testing.assert_allclose(robust, np.sign(RLOO))


def test_robust_without_deviation_divides_by_one() -> None:
    given = np.array([1, -1 / 3, -1 / 3, -1 / 3])
    robust = AdvantageProcessor(normalization="robust", clipping="none")(given).advantages
    np.testing.assert_allclose(robust, [4 / 3, 0, 0, 0])


def test_invalid_values_are_replaced_first_and_counted() -> None:
    given = np.array([np.nan, np.inf, -np.inf, 0.5])
    found = AdvantageProcessor(clipping="none")(given)
    np.testing.assert_array_equal(found.advantages, [0, 1, -1, 0.5])
    assert (found.nan, found.infinite, found.negative, found.positive, found.clipped) == (1, 2, 1, 2, 0)
    other = AdvantageProcessor(clipping="none", nan_replacement=-2.0, inf_replacement=5.0)(given)
    np.testing.assert_array_equal(other.advantages, [-2, 5, -5, 0.5])


@pytest.mark.parametrize("normalization", ["none", "standard", "robust", "zero_mean", "min_max"])
@pytest.mark.parametrize("given", [[], [0.7], [2.0, 2.0], [1e308, -1e308]])
def test_whatever_comes_is_finite(normalization: str, given: list[float]) -> None:
    """One rollout has no unbiased deviation: upstream divides by it, and gets NaN."""
    found = AdvantageProcessor(normalization=normalization)(given)
    assert np.isfinite(found.advantages).all()
    assert len(found.advantages) == len(given)


def test_counts_and_scopes() -> None:
    given = np.array([1, -1, 10, -10.0])
    batch = AdvantageProcessor(clip_value=3.0)(given)
    assert (batch.clipped, batch.negative, batch.positive) == (2, 2, 2)
    options = {"normalization": "standard", "clipping": "none", "scope": "group"}
    group = AdvantageProcessor(**options)(given, ["a", "a", "b", "b"])  # type: ignore[arg-type]
    np.testing.assert_allclose(group.advantages, np.sqrt(0.5) * np.sign(given))
    with pytest.raises(ValueError, match="needs a label for each"):
        AdvantageProcessor(**options)(given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clipping": "asymmetric"}, "needs clip_value_negative"),
        ({"clipping": "symetric"}, "did you mean 'symmetric'"),
        ({"negative_handling": "square"}, "negative_handling is 'square'"),
        ({"quantile_range": (0.9, 0.1)}, "must be below"),
        ({"quantile_range": (0.5, 1.5)}, "quantiles are 0 to 1"),
        ({"ddof": 2}, "ddof is 2"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AdvantageProcessor(**options)


@pytest.mark.parametrize("method", ["abs", "exp", "shift", "softplus"])
def test_the_guided_loss_needs_signs(method: str) -> None:
    """Upstream takes softplus for it: every rollout then asks for more of itself, the failed ones too."""
    given = AdvantageProcessor(negative_handling=method)(RLOO)
    assert given.positive == len(RLOO)
    with pytest.raises(ValueError, match="cfg reads the sign of an advantage alone"):
        RIPTConfig(optimisation="cfg", advantage_negative_handling=method)
    RIPTConfig(optimisation="ppo", advantage_negative_handling=method)


def test_min_max_has_no_signs_either() -> None:
    with pytest.raises(ValueError, match="cfg reads the sign"):
        RIPTConfig(optimisation="cfg", advantage_normalization="min_max")


def test_clipped_losses_of_tokens_and_of_chunks() -> None:
    old, new, mask = np.array([[-1, -2, -0.5]]), np.array([[-0.8, -2.4, -0.5]]), np.ones((1, 3))
    np.testing.assert_allclose(np.exp(new - old), [[1.221403, 0.67032, 1]], atol=1e-6)
    np.testing.assert_allclose(np.exp((new - old).sum()), 0.818731, atol=1e-6)
    for advantage, per, wanted in ((1, "token", -0.956773), (1, "chunk", -0.818731), (-1, "token", 1.007134)):
        found = clipped(new, old, mask, np.array([advantage]), clip=0.2, per=per, xp=np)
        np.testing.assert_allclose(found, [wanted], atol=1e-6)
    found = clipped(new, old, mask, np.array([-1.0]), clip=0.2, per="chunk", xp=np)
    np.testing.assert_allclose(found, [0.818731], atol=1e-6)


def test_guided_losses() -> None:
    found = losses.cfg_losses(
        np.array([0.4, 0.8, 0.2]), np.array([0.5, 0.6, 0.3]), np.array([1, -0.333, -0.333]), alpha=0.1
    )
    np.testing.assert_allclose(found, [0.45, 0.06, 0.03])
    assert found.mean() == pytest.approx(0.18)


def flow() -> AskedFlow:
    torch.manual_seed(0)
    return new_flow_policy(demonstrations(), slots=SLOTS)


def batch(count: int = 6) -> dict[str, Any]:
    return demonstrations().batch(torch.arange(count))


def test_branches_share_nothing_and_differ_in_the_indicator() -> None:
    given = batch()
    positive, free = branches(given)
    check_branches(positive, free)
    assert positive[INDICATOR].tolist() == [1] * 6
    assert free[INDICATOR].tolist() == [0] * 6
    positive["observation.state"].zero_()
    positive["task"][0] = "something else"
    assert torch.equal(free["observation.state"], given["observation.state"])
    assert free["task"][0] == given["task"][0]


@pytest.mark.parametrize("defect", ["shared", "list", "same", "other"])
def test_branches_that_are_not_independent_are_found(defect: str) -> None:
    positive, free = branches(batch())
    if defect == "shared":
        free["observation.state"] = positive["observation.state"][:]
    elif defect == "list":
        free["task"] = positive["task"]
    elif defect == "same":
        free[INDICATOR] = positive[INDICATOR].clone()
    else:
        free["action"] = free["action"] + 1
    with pytest.raises(ValueError, match="the branches"):
        check_branches(positive, free)


def test_the_guided_loss_is_of_both_branches_with_one_noise() -> None:
    model, given = flow(), batch()
    advantages = torch.tensor([1.0, -1, 0, 0.5, -0.2, 2])
    found = guided_losses(model, given, advantages, alpha=0.3, generator=torch.Generator().manual_seed(5))
    noise, time = model.noise(given, torch.Generator().manual_seed(5))
    positive, free = (model.loss(given | {INDICATOR: torch.full((6,), value)}, noise, time) for value in (1, 0))
    torch.testing.assert_close(found, (advantages > 0) * positive + 0.3 * free)


def test_what_was_worse_teaches_only_the_branch_without_the_indicator() -> None:
    """The gradient of a group's worse rollouts does not reach the indicator's own vector."""
    model = flow()
    worse = guided_losses(
        model, batch(), torch.full((6,), -1.0), alpha=0.3, generator=torch.Generator().manual_seed(0)
    )
    worse.sum().backward()
    asked = model.indicator.weight.grad
    assert asked is not None
    assert float(asked[1].abs().max()) == 0.0
    assert float(asked[0].abs().max()) > 0.0


def test_a_policy_that_does_not_read_the_indicator_is_refused() -> None:
    model = flow()
    check_guided(model, batch())
    with torch.no_grad():
        model.indicator.weight[1] = model.indicator.weight[0]
    with pytest.raises(UsageError, match=r"E232 .*does not read the indicator"):
        check_guided(model, batch())


def test_at_scale_one_the_branch_with_the_indicator_acts() -> None:
    """Upstream takes neither of the trained branches there."""
    model, given = flow(), batch()
    chunks = {}
    for scale in (0.0, 1.0, 3.0):
        model.cfg_scale = scale
        chunks[scale] = model.act(given, torch.Generator().manual_seed(0)).actions
    with torch.no_grad():
        model.indicator.weight[0] += 1.0  # of the branch without
    model.cfg_scale = 1.0
    again = model.act(given, torch.Generator().manual_seed(0)).actions
    assert torch.equal(again, chunks[1.0])
    assert not torch.equal(chunks[0.0], chunks[1.0])
    assert not torch.equal(chunks[3.0], chunks[1.0])


def test_steps_after_the_end_count_nothing_in_a_flow() -> None:
    model, given = flow(), batch()
    pad = torch.zeros(6, 8, dtype=torch.bool)
    pad[:, 3:] = True
    noise, time = model.noise(given, torch.Generator().manual_seed(0))
    one = model.loss(given | {"action_is_pad": pad, INDICATOR: torch.ones(6, dtype=torch.int64)}, noise, time)
    other = batch()
    assert one.shape == (6,)
    # What lies after the end may be anything within the range of actions.
    other["action"][:, 3:, :3] *= -1
    # It is still what the policy is shown, so its noise is the same only where actions are: compare the weights.
    free = torch.full((6,), 1)
    again = model.loss(other | {"action_is_pad": torch.ones_like(pad), INDICATOR: free}, noise, time)
    assert torch.equal(again, torch.zeros(6))


def test_gradients_of_a_flow_agree_with_differences() -> None:
    model, given = flow().double(), batch(2)
    given = given | {"observation.state": given["observation.state"].double()}
    noise, time = (part.double() for part in model.noise(given, torch.Generator().manual_seed(0)))
    given[INDICATOR] = torch.ones(2, dtype=torch.int64)

    def value() -> Any:
        wanted = model.scaling.scaled(given["action"])
        at = time[:, None, None]
        found = model.velocity(model._prefix(given), (1 - at) * noise + at * wanted, time, given[INDICATOR])
        return (found - (wanted - noise)).square().mean()

    value().backward()
    weight = model.indicator.weight
    gradient = weight.grad
    assert gradient is not None
    for column in (0, 7):
        with torch.no_grad():
            weight[1, column] += 1e-6
            above = float(value())
            weight[1, column] -= 2e-6
            below = float(value())
            weight[1, column] += 1e-6
        assert float(gradient[1, column]) == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-8)


def test_every_option_of_the_published_program_is_somewhere() -> None:
    """`TrainingConfig` of OpenPI-RIPT: an option here under its name, or a message that says where."""
    published = {
        *("experiment_name", "output_dir", "seed", "checkpoint_path", "freeze_vision_encoder"),
        *("train_expert_only", "train_state_proj", "dataset_id", "action_chunk_size", "image_size"),
        *("target_state_dim", "rloo_batch_size", "demo_batch_size", "enable_dynamic_sampling"),
        *("enable_state_skipping", "rollout_goal_per_step", "rollout_skip_threshold"),
        *("advantage_normalization", "advantage_clipping", "advantage_clip_value"),
        *("advantage_negative_handling", "cfg_alpha", "enable_cfg_safe_copy", "num_train_steps"),
        *("gradient_accumulation_steps", "learning_rate", "weight_decay", "gradient_clip_norm", "enable_amp"),
        *("device", "device_id", "enable_wandb", "log_interval", "eval_interval", "save_interval", "verbose"),
    }
    ours = set(vars(PRESETS["full"]))
    assert published <= ours | set(ELSEWHERE)
    assert not ours & set(ELSEWHERE)
