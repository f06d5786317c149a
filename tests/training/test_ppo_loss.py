"""The clipped loss and the buffer: gradients in torch and JAX against finite differences; upstream's mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training_adapters.ppo.buffer import partition, stack  # noqa: E402
from training_adapters.ppo.loss import clipped, divergence, log_ratio  # noqa: E402

RANDOM = np.random.default_rng(3)
OLD = -RANDOM.exponential(size=(4, 3))
# Ratios inside, above and below the clip, away from its corners, where there is no derivative.
NEW = OLD + np.array([[0.01, 0.02, 0.0], [0.3, 0.2, 0.1], [-0.4, -0.2, -0.1], [0.02, -0.05, 0.0]])
MASK = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0]], dtype=float)
ADVANTAGE = np.array([1.0, -0.5, 0.7, -2.0])


def total(new: np.ndarray, per: str) -> float:
    return float(clipped(new, OLD, MASK, ADVANTAGE, clip=0.2, per=per, xp=np).sum())


def differences(per: str) -> np.ndarray:
    out, step = np.zeros_like(NEW), 1e-6
    for place in np.ndindex(*NEW.shape):
        there = np.zeros_like(NEW)
        there[place] = step
        out[place] = (total(NEW + there, per) - total(NEW - there, per)) / (2 * step)
    return out


@pytest.mark.parametrize("per", ["chunk", "token"])
def test_gradient_in_torch(per: str) -> None:
    new = torch.tensor(NEW, requires_grad=True)
    old, mask, advantage = map(torch.tensor, (OLD, MASK, ADVANTAGE))
    clipped(new, old, mask, advantage, clip=0.2, per=per, xp=torch).sum().backward()
    np.testing.assert_allclose(new.grad.numpy(), differences(per), atol=1e-8)


@pytest.mark.parametrize("per", ["chunk", "token"])
def test_gradient_in_jax(per: str) -> None:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        xp = jax.numpy

        def loss(new: Any) -> Any:
            return clipped(
                new, xp.asarray(OLD), xp.asarray(MASK), xp.asarray(ADVANTAGE), clip=0.2, per=per, xp=xp
            ).sum()

        np.testing.assert_allclose(jax.grad(loss)(xp.asarray(NEW)), differences(per), atol=1e-8)


def test_before_an_update_the_loss_is_minus_the_advantage() -> None:
    assert clipped(OLD, OLD, MASK, ADVANTAGE, clip=0.2, per="chunk", xp=np).tolist() == (-ADVANTAGE).tolist()


def test_the_ratio_of_a_chunk_is_that_of_the_product_of_its_tokens() -> None:
    assert np.exp(log_ratio(NEW, OLD, MASK))[1] == pytest.approx(np.exp(0.5))  # the third token is none


def test_a_clipped_chunk_has_no_gradient() -> None:
    """Chunk 2 of advantage 0.7 has a ratio below 0.8, where the minimum is not clipped; of -0.5 it would be."""
    new = torch.tensor(NEW, requires_grad=True)
    advantage = torch.tensor([1.0, 0.5, -0.7, -2.0])
    old, mask = torch.tensor(OLD), torch.tensor(MASK)
    clipped(new, old, mask, advantage, clip=0.2, per="chunk", xp=torch).sum().backward()
    assert new.grad[1:3].abs().max() == 0


def test_divergence_is_zero_without_a_change_and_else_positive() -> None:
    assert divergence(OLD, OLD, MASK, xp=np).tolist() == [0.0] * 4
    assert (divergence(NEW, OLD, MASK, xp=np) > 0).all()


@pytest.mark.parametrize(("count", "size"), [(10, 4), (8, 8), (3, 5), (64, 16)])
def test_an_epoch_is_a_partition(count: int, size: int) -> None:
    """Upstream draws each batch anew: of an epoch's chunks a third is never seen, and others twice."""
    generator = torch.Generator().manual_seed(0)
    rows = list(partition(count, size, generator))
    assert sorted(torch.cat(rows).tolist()) == list(range(count))
    assert all(len(part) == size for part in rows[:-1])


def test_epochs_have_other_partitions() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.cat(list(partition(64, 8, generator))).tolist() for _ in range(2))
    assert first != second


def test_tokens_of_unlike_lengths_are_filled_up() -> None:
    made = stack([torch.tensor([[1, 2]]), torch.tensor([[3, 4, 5]])])
    assert made.tolist() == [[1, 2, 0], [3, 4, 5]]
