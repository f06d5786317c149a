"""RECAP's indicator: modes, thresholds, dropout, and the text of each model by its tokenizer's rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training_adapters.recap import Indicator, model_text, state_bins
from vla_data.errors import UsageError

TASK = "Pick_up the Cup"
STATE = [0.0, -1.0, 0.5]


@pytest.mark.parametrize(
    ("target", "positive", "prompt", "text"),
    [
        ("opentau", True, "Pick_up the Cup\nAdvantage: positive\n", "Pick_up the Cup\nAdvantage: positive\n"),
        ("opentau", False, "Pick_up the Cup\nAdvantage: negative\n", "Pick_up the Cup\nAdvantage: negative\n"),
        ("opentau", None, "Pick_up the Cup", "Pick_up the Cup\n"),
        ("openpi-pi0", True, "Pick_up the Cup\nAdvantage: positive", "Pick up the Cup Advantage: positive\n"),
        ("openpi-pi0", None, "Pick_up the Cup", "Pick up the Cup\n"),
        (
            "openpi-pi05",
            False,
            "Pick_up the Cup\nAdvantage: negative",
            "Task: Pick up the Cup Advantage: negative, State: 128 0 192;\nAction: ",
        ),
        (
            "openpi-fast",
            True,
            "Pick_up the Cup\nAdvantage: positive",
            "Task: pick up the cup\nadvantage: positive, State: 128 0 192;\n",
        ),
        ("rlinf", True, "Pick_up the Cup\nAdvantage: positive", "Pick_up the Cup\nAdvantage: positive"),
    ],
)
def test_text_of_each_model(target: Any, positive: bool | None, prompt: str, text: str) -> None:
    assert Indicator(target=target).prompt(TASK, positive=positive) == prompt
    assert model_text(target, prompt, STATE) == text


@pytest.mark.parametrize("target", ["opentau", "openpi-pi0", "openpi-pi05", "openpi-fast"])
def test_an_instruction_that_ends_in_a_newline_gets_no_second_one(target: Any) -> None:
    for_line, for_text = (Indicator(target=target).prompt(task) for task in ("go\n", "go"))
    assert for_line == for_text


def test_an_opentau_suffix_is_one_line_in_pi0() -> None:
    """The trap: the same words, ended by a newline, are another text for each tokenizer."""
    suffix = "go\nAdvantage: positive\n"
    assert model_text("openpi-pi0", suffix) == "go Advantage: positive\n"
    assert model_text("openpi-fast", suffix, [0.0]) == "Task: go\nadvantage: positive, State: 128;\n"


@pytest.mark.parametrize(("mode", "word"), [("on", "positive"), ("use", "negative"), ("ignore", None)])
def test_modes(mode: Any, word: str | None) -> None:
    found = Indicator(target="opentau", mode=mode).prompt("go", positive=False)
    assert found == ("go" if word is None else f"go\nAdvantage: {word}\n")


@pytest.mark.parametrize(
    ("op", "advantage", "positive"),
    [(">=", 0.5, True), (">", 0.5, False), (">", 0.6, True), (">=", 0.4, False), (">=", None, True)],
)
def test_threshold_and_operator(op: Any, advantage: float | None, positive: bool) -> None:
    assert Indicator(target="opentau", threshold=0.5, op=op).positive(advantage) is positive


def test_threshold_of_a_task_and_demonstrations() -> None:
    assert Indicator(target="opentau").positive(0.2, threshold=0.3) is False
    assert Indicator(target="opentau", mode="on").positive(-5.0) is True


def batch(size: int) -> dict[str, Any]:
    return {
        "tasks": ["go"] * size,
        "labels": np.arange(size) % 2 == 0,
        "episodes": [f"episode_{i // 50:06d}" for i in range(size)],
        "frames": [i % 50 for i in range(size)],
    }


def test_dropout_has_its_share_and_is_reproducible() -> None:
    size, indicator = 20_000, Indicator(target="opentau", dropout=0.3, seed=7)
    prompts = indicator.prompts(**batch(size))
    assert prompts == Indicator(target="opentau", dropout=0.3, seed=7).prompts(**batch(size))
    bare = sum(text == "go" for text in prompts)
    assert abs(bare - 0.3 * size) < 5 * (size * 0.3 * 0.7) ** 0.5
    assert {text for text in prompts if text != "go"} == {
        f"go\nAdvantage: {w}\n" for w in ("positive", "negative")
    }


def test_dropout_is_of_the_frame_and_not_of_its_place_in_a_batch() -> None:
    indicator, whole = Indicator(target="rlinf", dropout=0.5), batch(100)
    want = indicator.prompts(**whole)
    alone = [indicator.prompts(**{k: v[i : i + 1] for k, v in whole.items()})[0] for i in range(100)]
    assert alone == want


def test_epochs_and_seeds_draw_anew() -> None:
    first = Indicator(target="rlinf", dropout=0.5)
    draws = {
        tuple(first.prompts(**batch(200))),
        tuple(first.prompts(**batch(200), epoch=1)),
        tuple(Indicator(target="rlinf", dropout=0.5, seed=1).prompts(**batch(200))),
    }
    assert len(draws) == 3


def test_positive_only() -> None:
    found = Indicator(target="rlinf", positive_only=True).prompts(**batch(4))
    assert found == ["go\nAdvantage: positive", "go"] * 2


@pytest.mark.parametrize("labels", [[1, 0], [True], [0.5, 0.1], [None, True]])
def test_labels_are_never_assumed(labels: list[Any]) -> None:
    """OpenTau counts a frame without an advantage as positive."""
    with pytest.raises(UsageError, match="E302"):
        Indicator(target="opentau").prompts(["a", "b"], labels, episodes=[0, 0], frames=[0, 1])


@pytest.mark.parametrize(("advantage", "threshold"), [(float("nan"), None), (0.1, float("nan"))])
def test_nan_is_neither_positive_nor_negative(advantage: float, threshold: float | None) -> None:
    with pytest.raises(UsageError, match=r"E302.*nan.*has no label"):
        Indicator(target="opentau").positive(advantage, threshold=threshold)


def test_state_bins_are_openpis() -> None:
    assert state_bins([-1.5, -1, 0, 0.5, 0.9922, 3]).tolist() == [-1, 0, 128, 192, 255, 255]
    with pytest.raises(UsageError, match="writes the state into its text"):
        model_text("openpi-pi05", "go")


@pytest.mark.parametrize("options", [{"target": "pi0"}, {"mode": "off"}, {"dropout": 1.5}, {"op": "=="}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="not"):
        Indicator(**{"target": "opentau", **options})
