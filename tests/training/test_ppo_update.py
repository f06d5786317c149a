"""When an update of chunk PPO ends, and which learning rates its schedule gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from tests.training.test_ppo_learns import follower  # noqa: E402
from training_adapters.loop import (  # noqa: E402
    SCHEDULES,
    Group,
    Optimisation,
    accelerator,
)
from training_adapters.ppo.config import PPOConfig  # noqa: E402
from training_adapters.ppo.program import Spent  # noqa: E402
from training_adapters.ppo.update import METRICS, Told, update  # noqa: E402

CONFIG = PPOConfig(batch_size=64, num_epochs_per_update=3, ent_coef=0.0, learning_rate=1e-2)


def told(config: PPOConfig) -> Told:
    """An update of 256 chunks, four batches an epoch, that moves the policy fast."""
    model, collector, generator = follower()
    parts = (model.actor_backbone, model.value_head)
    optimisation = Optimisation(
        model,
        [Group(module=part, learning_rate=config.learning_rate, clip=0.5) for part in parts],
        accelerator=accelerator(),
        schedule=SCHEDULES[config.schedule],
    )
    return update(optimisation, collector.collect(8).rollout, config, generator, share=0.0)


def kls(found: Told) -> list[float]:
    return [row[METRICS.index("kl")] for row in found.rows]


def test_without_a_bound_all_epochs_are_learnt_from() -> None:
    assert len(told(replace(CONFIG, target_kl=None)).rows) == 12


def test_a_batch_beyond_the_bound_ends_an_update_at_once() -> None:
    every = kls(told(replace(CONFIG, target_kl=None)))
    bound = max(every[1:3]) * 0.5
    ended = kls(told(replace(CONFIG, target_kl=bound, kl_stop="batch")))
    assert len(ended) == next(number for number, kl in enumerate(every, 1) if kl > bound) < 4
    assert ended == every[: len(ended)]


def test_an_epoch_beyond_the_bound_is_learnt_from_to_its_end() -> None:
    """The same bound, which a batch of the first epoch passes and its mean does not, lets that epoch go on."""
    every = kls(told(replace(CONFIG, target_kl=None)))
    first = sum(every[:4]) / 4
    assert max(every[:4]) > first
    ended = told(replace(CONFIG, target_kl=first * 0.99, kl_stop="epoch"))
    assert (len(ended.rows), ended.epochs) == (4, 1)
    later = told(replace(CONFIG, target_kl=first * 1.01, kl_stop="epoch"))
    assert len(later.rows) == 8  # each further epoch is judged by itself
    assert later.epochs == 2


@pytest.mark.parametrize(("schedule", "factors"), [("constant", [1, 1, 1]), ("linear", [1, 0.55, 0.1])])
def test_schedules(schedule: str, factors: list[float]) -> None:
    assert [SCHEDULES[schedule](share) for share in (0.0, 0.5, 1.0)] == pytest.approx(factors)


@pytest.mark.parametrize(("name", "value"), [("schedule", "steps"), ("kl_stop", "never")])
def test_unknown_words_are_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is '{value}'"):
        replace(CONFIG, **{name: value})


def test_what_cpu_time_went_to_is_a_line() -> None:
    spent = Spent()
    spent.add(1_000, 10, 0.5, 2.0)
    spent.add(1_000, 20, 0.5, 1.0)
    assert str(spent) == (
        "2,000 environment steps in 1.0 CPU s (2,000 a second), 30 updates in 3.0 CPU s (10.0 a second)"
    )
