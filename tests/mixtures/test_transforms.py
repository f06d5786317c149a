"""Transforms of batches: states of one width, prompts with an indicator, and one's own."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mixture_sources import Noisy
from training_adapters.recap import Indicator
from vla_data.errors import DataError, UsageError
from vla_data.mixtures import BatchTransform, Loader, Mixture, Prompt, StateDim, open_mixture
from vla_data.mixtures.transforms import Form

Mixed = Callable[..., Mixture]


# -- StateDim -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "padding", "truncation", "made", "mask"),
    [
        (5, "zero", None, [1, 2, 6, 0, 0], [1, 1, 1, 0, 0]),
        (5, "repeat_last", None, [1, 2, 6, 6, 6], [1, 1, 1, 0, 0]),
        (5, "mean", None, [1, 2, 6, 3, 3], [1, 1, 1, 0, 0]),
        (3, "mean", None, [1, 2, 6], [1, 1, 1]),
        (2, "zero", "first", [1, 2], [1, 1]),
        (2, "zero", "last", [2, 6], [1, 1]),
        (1, "zero", "middle", [2], [1]),
        (2, "zero", "middle", [1, 2], [1, 1]),
    ],
)
@pytest.mark.parametrize("history", [False, True])
def test_states_of_another_width(dim, padding, truncation, made, mask, history) -> None:
    """What the mixture padded (the 9s, which no mask has) is none of the state."""
    state = np.asarray([[1, 2, 6, 9, 9]] * 2, dtype=np.float32)
    batch = {
        "observation.state": np.stack([state, state], axis=1) if history else state,
        "observation.state_mask": np.asarray([[True] * 3 + [False] * 2] * 2),
        "action": np.zeros((2, 1, 7)),
    }
    out = StateDim(dim, padding, truncation).forward(batch)
    assert out["observation.state"].dtype == np.float32
    assert out["observation.state"].tolist() == ([[made] * 2] * 2 if history else [made] * 2)
    assert out["observation.state_mask"].astype(int).tolist() == [mask] * 2
    assert batch["observation.state"].shape[-1] == 5
    assert StateDim(dim).inverse(batch["action"]) is batch["action"]


@given(
    widths=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    dim=st.integers(1, 12),
    padding=st.sampled_from(["zero", "repeat_last", "mean"]),
    truncation=st.sampled_from(["first", "last", "middle"]),
)
@settings(deadline=None)
def test_states_row_by_row(widths, dim, padding, truncation) -> None:
    rows = [np.random.default_rng(w).normal(size=w).astype(np.float32) for w in widths]
    state, mask = np.zeros((len(rows), 9), np.float32), np.zeros((len(rows), 9), bool)
    for i, row in enumerate(rows):
        state[i, : len(row)], mask[i, : len(row)] = row, True
    out = StateDim(dim, padding, truncation).forward({"observation.state": state, "observation.state_mask": mask})
    for i, row in enumerate(rows):
        start = {"first": 0, "last": len(row) - dim, "middle": (len(row) - dim) // 2}[truncation]
        kept = row[start : start + dim].tolist() if len(row) > dim else row.tolist()
        fill = 0.0 if padding == "zero" or not kept else kept[-1] if padding == "repeat_last" else np.mean(row)
        assert out["observation.state"][i].tolist() == pytest.approx(kept + [fill] * (dim - len(kept)), abs=1e-6)
        assert out["observation.state_mask"][i].tolist() == [True] * len(kept) + [False] * (dim - len(kept))


def test_states_are_never_cut_unasked(mixed: Mixed) -> None:
    mixture = mixed([Noisy(width=4), Noisy(number=1, width=6)])
    with pytest.raises(UsageError, match=r"E232.*s1 has states of 6 numbers; say which 5 stay"):
        Loader(mixture, batch_size=1, transforms=[StateDim(5)])
    made = Loader(mixture, batch_size=8, transforms=[StateDim(5, truncation="last")]).make(0, 0)
    assert made["observation.state"].shape == (8, 5)
    with pytest.raises(DataError, match="E203"):
        StateDim(5).forward({"observation.state": np.zeros((1, 6))})


@pytest.mark.parametrize("options", [{"dim": 0}, {"dim": 3, "padding": "zeros"}, {"dim": 3, "truncation": "end"}])
def test_options_of_a_state_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="E001 usage: StateDim: "):
        StateDim(**options)


# -- Prompt ---------------------------------------------------------------------------------------------


def prompted(root: Path, indicator: Indicator, **rest: Any) -> Loader:
    entry = {"root": str(root), "annotation": "v1", "episodes": [1, 2]}
    mixture = open_mixture({"contract": {"chunk": 2}, "datasets": [entry], "order": "shuffle"})
    return Loader(mixture, batch_size=8, transforms=[Prompt(indicator)], **rest)


def test_prompts_are_the_indicators_of_the_frames_labels(annotated: Path) -> None:
    indicator = Indicator(target="openpi-pi05", dropout=0.3, seed=7)
    loader = prompted(annotated, indicator, workers=2)
    texts = []
    for epoch in range(2):
        for number, batch in enumerate(loader):
            plain = loader.mixture.batch(epoch, loader.plan.positions(number))
            wanted = indicator.prompts(
                plain["task"],
                plain["positive"],
                episodes=plain["episode_index"].tolist(),
                frames=plain["frame_index"].tolist(),
                epoch=epoch,
            )
            assert batch["task"] == wanted
            texts += wanted
    kinds = {text.partition("\n")[2] for text in texts}
    assert kinds == {"", "Advantage: positive", "Advantage: negative"}


def test_a_resumed_run_has_the_same_prompts(annotated: Path) -> None:
    indicator = Indicator(target="rlinf", dropout=0.5)
    loader = prompted(annotated, indicator)
    wanted = [batch["task"] for _ in range(2) for batch in loader]
    assert len(wanted) == 2 * len(loader) > 6
    first, head = prompted(annotated, indicator, workers=3), []
    for batch in first:
        head.append(batch["task"])
        if len(head) == 3:
            break
    second = pickle.loads(pickle.dumps(prompted(annotated, indicator)))
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + [batch["task"] for _ in range(2) for batch in second] == wanted


def test_nothing_is_positive_by_default(annotated: Path) -> None:
    mixture = open_mixture({"contract": {}, "datasets": [{"root": str(annotated)}]})
    with pytest.raises(UsageError, match=r"E302.*annotation = TAG"):
        Loader(mixture, batch_size=1, transforms=[Prompt(Indicator(target="rlinf"))])
    with pytest.raises(UsageError, match=r"E302.*no labels"):
        Prompt(Indicator(target="rlinf")).forward(mixture.gather([0], [0]))
    on = Loader(mixture, batch_size=1, transforms=[Prompt(Indicator(target="rlinf", mode="on"))])
    assert on.make(0, 0)["task"][0].endswith("\nAdvantage: positive")


# -- one's own ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scaled(BatchTransform):
    by: float

    def forward(self, batch: Any, *, epoch: int = 0) -> dict[str, Any]:
        return {**batch, "action": batch["action"] * (self.by + epoch)}

    def inverse(self, actions: Any, *, dataset: Any = None) -> Any:
        return actions / self.by


class Shifted(BatchTransform):
    def bind(self, form: Form) -> tuple[BatchTransform, Form]:
        assert form.names == ("s0",)
        return self, form

    def forward(self, batch: Any, *, epoch: int = 0) -> dict[str, Any]:
        return {**batch, "action": batch["action"] + 1}

    def inverse(self, actions: Any, *, dataset: Any = None) -> Any:
        return actions - 1


def test_the_way_back_is_in_reverse_and_epochs_are_told(mixed: Mixed) -> None:
    mixture = mixed([Noisy(lengths=(20,))], order="sequential")
    loader = Loader(mixture, batch_size=10, transforms=[Shifted(), Scaled(4)])
    plain = mixture.gather([0] * 10, range(10))["action"]
    assert np.array_equal(loader.make(0, 0)["action"], (plain + 1) * 4)
    assert np.array_equal(loader.make(2, 0)["action"], (plain + 1) * 6)
    np.testing.assert_allclose(loader.inverse(loader.make(0, 0)["action"]), plain, atol=1e-6)
    assert loader.example()["action"].shape == (1, 3, 8)
    assert loader.state_dict() == Loader(mixture, batch_size=10).state_dict()
    one = Loader(mixture, batch_size=10, transforms=Scaled(2))
    assert np.array_equal(one.make(0, 0)["action"], plain * 2)
    with pytest.raises(UsageError, match=r"E001.*dict in transforms is not a BatchTransform"):
        Loader(mixture, batch_size=10, transforms=[{"rule": "openpi.quantile"}])
