"""Which features make a state, where nobody says so: what our own commands make opens as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.mixture_sources import Numbered
from tests.paths import TESTS
from vla_data.cli import cli
from vla_data.errors import UsageError
from vla_data.mixtures import Mixture, member, open_mixture

ROLLOUTS = TESTS / "data/rollouts"
LIBERO = TESTS / "data/hdf5/libero_spatial0_demo.hdf5"

MADE: dict[str, tuple[list[str], int]] = {
    "align": (["align", str(ROLLOUTS), "OUT/set"], 0),
    "build": (["build", "ppo_sft_aligned", "--input", str(ROLLOUTS), "--data-dir", "OUT"], 0),
    "convert rollouts": (["convert", str(ROLLOUTS), "OUT/set"], 0),
    "convert rollouts to RLDS": (["convert", str(ROLLOUTS), "OUT/set", "--to", "rlds"], 0),
    "convert LIBERO": (["convert", str(LIBERO), "OUT/set"], 8),
    "convert LIBERO to RLDS": (["convert", str(LIBERO), "OUT/set", "--to", "rlds"], 8),
    "convert LIBERO to robomimic": (["convert", str(LIBERO), "OUT/set.hdf5", "--to", "robomimic"], 8),
}
"""Command, and numbers of a state in what it makes."""


@pytest.mark.parametrize("name", MADE)
def test_what_our_commands_make_opens_as_it_is(tmp_path: Path, name: str) -> None:
    arguments, width = MADE[name]
    command = [word.replace("OUT", str(tmp_path)) for word in arguments]
    done = CliRunner().invoke(cli, [*command, "--workers", "1"])
    assert done.exit_code == 0, done.output
    root = tmp_path if name == "build" else next(tmp_path.glob("set*"))
    entry = {"root": str(root), "name": "it"}
    mixture = open_mixture({"contract": {"state_dim": 32}, "datasets": [entry]})
    batch = mixture.gather([0], [0])
    assert batch["observation.state_mask"].tolist() == [[True] * width + [False] * (32 - width)]
    assert batch["observation.state"].any() == (width > 0)
    assert [finding.code for finding in mixture.effective.findings] == ([] if width else ["no_state"])
    without = open_mixture({"contract": {}, "datasets": [entry]})
    assert "observation.state" not in without.gather([0], [0])
    assert not without.effective.findings


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Mixture]:
    def make(source: Any, contract: Any, cache: Path | None = None, **entry: Any) -> Mixture:
        monkeypatch.setattr(member, "open_source", lambda root, **_: source)
        config = {"contract": contract, "datasets": [{"root": "s", **entry}]}
        return open_mixture(config if cache is None else {**config, "cache": str(cache)})

    return make


class Stateless(Numbered):
    """Its state is in parts, which nobody put together."""

    def read(self, ref: Any) -> Any:
        episode = super().read(ref)
        arrays = dict(episode.arrays)
        arrays["observation.joints"] = arrays.pop("observation.state")
        arrays["observation.gripper"] = np.ones(len(episode))
        object.__setattr__(episode, "arrays", arrays)
        return episode


def test_a_state_in_parts_is_never_guessed(opened: Callable[..., Mixture], tmp_path: Path) -> None:
    source = Stateless()
    for cache in (None, tmp_path / "packs"):
        assert "observation.state" not in opened(source, {}, cache).gather([0], [0])
        for contract in ({"state_dim": 4}, {"delta": "state"}):
            with pytest.raises(UsageError, match=r"E231.*state = \[\].*observation.gripper, observation.joints"):
                opened(source, contract, cache)
    both = opened(source, {"state_dim": 4}, state=["observation.joints", "observation.gripper"])
    assert both.gather([0], [2])["observation.state"].tolist() == [[0, 0, 2, 1]]
    none = opened(source, {"state_dim": 4}, state=[])
    assert not none.gather([0], [2])["observation.state_mask"].any()
    assert not none.effective.findings  # it was said


def test_a_named_state_that_is_not_there_is_refused(opened: Callable[..., Mixture]) -> None:
    with pytest.raises(UsageError, match=r"E003.*no observation.eef; it has"):
        opened(Numbered(), {}, state=["observation.eef"])
    whole = opened(Numbered(), {"state_dim": 3}).gather([0], [3])
    named = opened(Numbered(), {"state_dim": 3}, state="observation.state").gather([0], [3])
    assert np.array_equal(whole["observation.state"], named["observation.state"])
