"""``vla-data fast-fit``: tokens for the chunks of a dataset, against NumPy's quantiles of the same chunks."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import vla_data as vd
from vla_data.cli import cli
from vla_data.errors import VlaDataError

pytest.importorskip("tokenizers")

from training_adapters.fast import FastTokenizer

HORIZON = 5
LENGTHS = (12, 3, 30, 20, 25)


def motions(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Actions ``(T, 3)`` and states ``(T, 4)`` of an episode, of unlike ranges."""
    random = np.random.default_rng(number)
    walk = np.cumsum(random.normal(size=(LENGTHS[number], 3)), axis=0) * (0.01, 0.2, 3.0) + (0.0, 1.0, -5.0)
    return walk.astype(np.float32), random.normal(size=(LENGTHS[number], 4)).astype(np.float32)


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets") / "walks"
    with vd.RolloutWriter(folder, fps=10) as writer:
        for number in range(len(LENGTHS)):
            episode = writer.episode(task="walk")
            for action, state in zip(*motions(number), strict=True):
                episode.add({"action": action, "observation.state": state})
            episode.end({"observation.state": np.zeros(4, dtype=np.float32)})
    return folder


def run(*words: object) -> Result:
    done = CliRunner().invoke(cli, ["fast-fit", *map(str, words)])
    if isinstance(done.exception, VlaDataError):
        raise done.exception
    return done


def chunks(*, delta: int = 0) -> np.ndarray:
    """Every chunk, written without the library: the last action again beyond the end."""
    rows = []
    for number, length in enumerate(LENGTHS):
        actions, states = motions(number)
        for t in range(length):
            chunk = np.stack([actions[min(t + k, length - 1)] for k in range(HORIZON)]).astype(np.float64)
            chunk[:, :delta] -= states[t, :delta]
            rows.append(chunk)
    return np.stack(rows)


def quantiles(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    q01, q99 = np.quantile(values.reshape(-1, 3), [0.01, 0.99], axis=0)
    return q01, q99


def test_tokens_say_the_chunks_that_openpi_would_give_them(rollouts: Path, tmp_path: Path) -> None:
    done = run(rollouts, "-o", tmp_path / "tokens", "--action-horizon", HORIZON)
    assert done.exit_code == 0
    facts = json.loads((tmp_path / "tokens/fit.json").read_text())
    low, high = quantiles(chunks())
    np.testing.assert_allclose(facts["statistics"]["q01"], low, rtol=1e-12)
    np.testing.assert_allclose(facts["statistics"]["q99"], high, rtol=1e-12)
    scaled = (chunks() - low) / (high - low + 1e-6) * 2 - 1
    tokenizer = FastTokenizer.load(tmp_path / "tokens")
    assert (tokenizer.horizon, tokenizer.dim) == (HORIZON, 3)
    back = tokenizer.decode(tokenizer.encode(scaled))
    assert not back.malformed.any()
    assert np.abs(back.actions - scaled).max() <= 0.5 / 10 * np.sqrt(HORIZON)
    np.testing.assert_allclose(np.abs(back.actions - scaled).max(), facts["max_error"], rtol=1e-9)
    assert facts["outside"] == pytest.approx((np.abs(scaled) > 1).mean())
    assert (facts["chunks"], facts["episodes"], facts["steps"]) == (sum(LENGTHS), len(LENGTHS), sum(LENGTHS))


def test_lerobots_statistics_are_of_steps_and_its_numbers_are_clipped(rollouts: Path, tmp_path: Path) -> None:
    words = ("--action-horizon", HORIZON, "--rule", "lerobot.quantiles", "--clip", "--scale", 6)
    run(rollouts, "-o", tmp_path / "tokens", *words)
    facts = json.loads((tmp_path / "tokens/fit.json").read_text())
    low, high = quantiles(np.concatenate([motions(number)[0] for number in range(len(LENGTHS))]).astype(float))
    np.testing.assert_allclose(facts["statistics"]["q01"], low, rtol=1e-12)
    assert facts["outside"] > 0
    tokenizer = FastTokenizer.load(tmp_path / "tokens")
    clipped = np.clip((chunks() - low) / (high - low) * 2 - 1, -1, 1)
    assert tokenizer.scale == 6
    assert len(tokenizer.encode(clipped)) == sum(LENGTHS)


def test_actions_relative_to_the_state(rollouts: Path, tmp_path: Path) -> None:
    run(rollouts, "-o", tmp_path / "tokens", "--action-horizon", HORIZON, "--delta-actions", "2,-1")
    facts = json.loads((tmp_path / "tokens/fit.json").read_text())
    low, _ = quantiles(chunks(delta=2))
    np.testing.assert_allclose(facts["statistics"]["q01"], low, rtol=1e-5)  # subtracted in float32, as openpi does
    assert facts["delta_actions"] == [True, True, False]


def test_few_chunks_are_drawn_and_the_statistics_stay_those_of_all(rollouts: Path, tmp_path: Path) -> None:
    words = ("--action-horizon", HORIZON, "--chunks", 40)
    run(rollouts, "-o", tmp_path / "few", *words)
    run(rollouts, "-o", tmp_path / "again", *words)
    run(rollouts, "-o", tmp_path / "all", "--action-horizon", HORIZON)
    few, every = (json.loads((tmp_path / name / "fit.json").read_text()) for name in ("few", "all"))
    assert (few["chunks"], every["chunks"]) == (40, sum(LENGTHS))
    assert few["statistics"] == every["statistics"]
    files = sorted(path.name for path in (tmp_path / "few").iterdir())
    assert all(
        (tmp_path / "few" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files
    )


def test_several_sources_are_taken_together(rollouts: Path, tmp_path: Path) -> None:
    other = shutil.copytree(rollouts, tmp_path / "other")
    words = ("-o", tmp_path / "tokens", "--action-horizon", HORIZON, "--json")
    assert json.loads(run(rollouts, other, *words).stdout)["chunks"] == 2 * sum(LENGTHS)
    with pytest.raises(VlaDataError, match=r"E001 .*named twice"):
        run(rollouts, rollouts, *words, "--replace")


def test_what_is_declared_is_looked_at(tmp_path: Path) -> None:
    """The numbers of the recorder's seven-number actions are motions: a state is not subtracted from them."""
    with vd.RolloutWriter(tmp_path / "moves", fps=5) as writer:
        episode = writer.episode(task="move")
        image = np.zeros((8, 8, 3), dtype=np.uint8)
        for action in np.random.default_rng(0).normal(size=(9, 7)) * 0.01:
            episode.add(image=image, action=action, success=False, state=action)
        episode.end(image=image)
    with pytest.raises(VlaDataError, match="E232"):
        run(tmp_path / "moves", "-o", tmp_path / "tokens", "--action-horizon", 4, "--delta-actions", "6,-1")
    assert "only 36 vectors" in run(tmp_path / "moves", "-o", tmp_path / "tokens", "--action-horizon", 4).stderr


def test_an_episode_that_cannot_be_used_is_named(rollouts: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in sorted(rollouts.glob("*.npz")):
        (copy / path.name).write_bytes(path.read_bytes())
    damaged = sorted(copy.glob("*.npz"))[1]
    damaged.write_bytes(damaged.read_bytes()[:200])
    done = run(copy, "-o", tmp_path / "tokens", "--action-horizon", HORIZON)
    assert done.exit_code == 3
    assert damaged.stem in done.stderr
    facts = json.loads((tmp_path / "tokens/fit.json").read_text())
    assert facts["chunks"] == sum(LENGTHS) - LENGTHS[1]
    assert len(facts["left_out"]) == 1


def test_nothing_is_overwritten_but_a_tokenizer_that_is_asked_for(rollouts: Path, tmp_path: Path) -> None:
    words = (rollouts, "--action-horizon", HORIZON, "-o")
    run(*words, tmp_path / "tokens", "--dry-run")
    assert not (tmp_path / "tokens").exists()
    run(*words, tmp_path / "tokens")
    with pytest.raises(VlaDataError, match=r"E411 .*--replace"):
        run(*words, tmp_path / "tokens")
    run(*words, tmp_path / "tokens", "--replace", "--scale", 5)
    assert FastTokenizer.load(tmp_path / "tokens").scale == 5
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine").write_text("mine")
    with pytest.raises(VlaDataError, match=r"E411 .*no tokenizer"):
        run(*words, tmp_path / "other", "--replace")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tokens"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--vocab-size", "20"], "E001 .*20 tokens cannot tell apart"),
        (["--rule", "none"], "E001 .*actions are of about"),
        (["--rule", "lerobot.mean_std", "--delta-actions", "3"], "E001 .*is for openpi"),
        (["--action", "nothing"], "E402 .*no numbers called nothing"),
    ],
)
def test_a_mistake_is_one_line(rollouts: Path, tmp_path: Path, words: list[str], says: str) -> None:
    scale = ["--scale", "200"] if "none" in words else []
    with pytest.raises(VlaDataError, match=says):
        run(rollouts, "-o", tmp_path / "tokens", "--action-horizon", HORIZON, *words, *scale)
    assert not (tmp_path / "tokens").exists()


def test_what_is_not_installed_is_one_line(
    rollouts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("training_adapters.fast")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(VlaDataError, match=r"E006 .*tokenizers is not installed: pip install .*\[train\]"):
        run(rollouts, "-o", tmp_path / "tokens", "--action-horizon", HORIZON)
