"""Runs of RIPT: what is played is on the disk once, adds up, and survives any end of a process."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mujoco")

import vla_data as vd  # noqa: E402
from tests.paths import ROOT  # noqa: E402
from tests.training import follow  # noqa: E402
from training_adapters import params  # noqa: E402
from training_adapters.ript.config import RIPTConfig  # noqa: E402
from training_adapters.ript.ledger import NAME, Ledger, sums  # noqa: E402
from training_adapters.ript.program import Program  # noqa: E402
from training_adapters.ript.rollouts import read  # noqa: E402
from training_adapters.ript.stats import read_stats  # noqa: E402
from training_adapters.ript.update import update  # noqa: E402
from training_adapters.runs import Run  # noqa: E402
from vla_data.errors import UsageError  # noqa: E402

SMALL = RIPTConfig(
    env="follow",
    num_train_steps=4,
    demo_batch_size=3,
    rloo_batch_size=4,
    rollout_goal_per_step=12,
    max_waves=3,
    lanes=5,
    batch_size=7,
    gradient_accumulation_steps=2,
    learning_rate=1e-3,
    save_interval=2,
    eval_episodes=0,
    seed=3,
)


@pytest.fixture(autouse=True)
def _follow(monkeypatch: pytest.MonkeyPatch) -> None:
    follow.install(monkeypatch)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("starts")
    return {name: str(follow.start(folder / name, flow=name == "flow")) for name in ("tokens", "flow")}


def trained(folder: Path, config: RIPTConfig, *, until: int | None = None, resume: bool = False) -> Program:
    run = Run(folder, config, resume=resume, out=io.StringIO())
    with Program(config, run, resume=resume) as program:
        program.train(until=until)
    return program


def configured(start: dict[str, str], **options: Any) -> RIPTConfig:
    flow = options.get("optimisation") == "cfg"
    return replace(SMALL, start=start["flow" if flow else "tokens"], **options)


def episodes(folder: Path) -> dict[tuple[int, ...], dict[str, Any]]:
    """Every rollout by identity; each is there once."""
    source = vd.open_source(folder / "rollouts")
    out: dict[tuple[int, ...], dict[str, Any]] = {}
    for ref in source.episodes():
        episode = source.read(ref)
        facts: Any = episode.meta["episode_metadata"]
        identity = tuple(facts[key] for key in ("policy_version", "wave", "group", "member"))
        assert identity not in out
        out[identity] = {"facts": facts} | dict(episode.arrays)
    return out


def same(first: Path, second: Path) -> None:
    """Two runs have the same parameters, the same rollouts and the same waves, but for the files' names."""
    one, two = (params.read(folder / "step_4" / "params") for folder in (first, second))
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])
    mine, theirs = episodes(first), episodes(second)
    assert mine.keys() == theirs.keys()
    for identity in mine:
        assert mine[identity].keys() == theirs[identity].keys()
        for name, value in mine[identity].items():
            np.testing.assert_array_equal(value, theirs[identity][name])
    assert _waves(first) == _waves(second)
    assert (first / "rollout_stats.json").read_bytes() == (second / "rollout_stats.json").read_bytes()


def _waves(folder: Path) -> list[Any]:
    waves = [asdict(wave) for wave in Ledger(folder)]
    for wave in waves:
        for group in wave["groups"]:
            for member in group["members"]:
                del member["file"]
    return waves


@pytest.fixture(scope="module")
def whole(start: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch = pytest.MonkeyPatch()
    follow.install(patch)
    folder = tmp_path_factory.mktemp("whole") / "run"
    trained(folder, configured(start))
    patch.undo()
    return folder


def test_groups_begin_at_one_recorded_start(whole: Path) -> None:
    found = episodes(whole)
    groups: dict[tuple[int, ...], list[dict[str, Any]]] = {}
    for identity, episode in found.items():
        groups.setdefault(identity[:3], []).append(episode)
    assert {len(members) for members in groups.values()} == {4}
    for members in groups.values():
        assert len({member["facts"]["init_hash"] for member in members}) == 1
        first = members[0]["observation.state"][0]
        assert all(np.array_equal(member["observation.state"][0], first) for member in members)
        assert members[0]["facts"]["initial_state"]["wanted"] == pytest.approx(first[0])
    actions = [member["action"].tobytes() for members in groups.values() for member in members]
    assert len(set(actions)) > 0.9 * len(actions)  # K rollouts are K draws, not one


def test_what_was_played_adds_up(whole: Path) -> None:
    counts = sums(Ledger(whole))
    assert counts["starts"] == counts["groups"] + counts["skipped"]
    assert counts["groups"] == counts["kept"] + counts["uniform"] + counts["single"]
    assert counts["rollouts"] + counts["malformed"] == 4 * counts["groups"]
    assert counts["rollouts"] == len(list((whole / "rollouts").glob("*.npz")))
    assert counts["solved"] == sum(map(sum, read_stats(whole / "rollout_stats.json").values()))
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    for name, count in counts.items():
        assert sum(row[name] for row in rows) == count
    assert counts["kept"] > 0
    assert counts["uniform"] > 0


def test_waves_are_played_until_enough_groups_teach(whole: Path) -> None:
    taught = Counter[int]()
    waves = Counter[int]()
    for wave in Ledger(whole):
        taught[wave.update] += sum(4 for group in wave.groups if group.verdict == "kept")
        waves[wave.update] += 1
    assert all(taught[update] >= 12 or waves[update] == 3 for update in range(4))
    assert len(set(waves.values())) > 1


def test_before_the_first_step_the_policy_is_the_one_that_acted(whole: Path) -> None:
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert all(row["drift"] < 1e-5 for row in rows)


def test_a_run_that_stopped_goes_on(whole: Path, start: dict[str, str], tmp_path: Path) -> None:
    config = configured(start)
    trained(tmp_path / "cut", config, until=2)
    trained(tmp_path / "cut", config, resume=True)
    same(whole, tmp_path / "cut")


def kill(folder: Path, config: RIPTConfig, kills: list[int]) -> list[int]:
    """See `tests.training.ript_kills`."""
    words = [str(folder), json.dumps(asdict(config)), json.dumps(kills)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.ript_kills", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def test_killed_anywhere_no_rollout_is_lost_or_there_twice(
    whole: Path, start: dict[str, str], tmp_path: Path
) -> None:
    config = configured(start)
    (steps,) = kill(tmp_path / "counted", config, [])
    same(whole, tmp_path / "counted")
    draw = random.Random(0)
    for number in range(3):
        # The first dies early, often before its first checkpoint; the others anywhere in what is left.
        kills = [draw.randint(1, 60), *(draw.randint(1, steps // 3) for _ in range(7))]
        kill(tmp_path / f"killed{number}", config, kills)
        same(whole, tmp_path / f"killed{number}")


@pytest.mark.parametrize("cut", [1, 40])
def test_a_line_that_was_cut_off_is_played_again(
    whole: Path, start: dict[str, str], tmp_path: Path, cut: int
) -> None:
    config, folder = configured(start), tmp_path / "run"
    trained(folder, config, until=2)
    data = (folder / NAME).read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    (folder / NAME).write_bytes(data[: last + cut])
    import shutil

    shutil.rmtree(folder / "step_2")  # or the last wave would be one of the past
    trained(folder, config, resume=True)
    same(whole, folder)


def test_rollouts_of_another_run_are_refused(start: dict[str, str], tmp_path: Path) -> None:
    config, folder = configured(start), tmp_path / "run"
    trained(folder, config, until=1)
    other = tmp_path / "other"
    trained(other, configured(start, seed=9), until=2)
    mine = len(list((folder / "rollouts").glob("*.npz")))
    for at, path in enumerate(sorted((other / "rollouts").glob("*.npz"))[-12:]):
        (folder / "rollouts" / f"episode_{mine + at:06}.npz").write_bytes(path.read_bytes())
    (folder / "rollouts" / "SHA256SUMS").unlink()
    with pytest.raises(
        UsageError, match=r"E301 .*is of another run: (it began elsewhere|this one has not played it)"
    ):
        trained(folder, config, resume=True)


def test_a_file_that_is_no_rollout_of_a_group_is_refused(start: dict[str, str], tmp_path: Path) -> None:
    config, folder = configured(start), tmp_path / "run"
    trained(folder, config, until=1)
    with vd.RolloutWriter(folder / "rollouts", fps=20) as writer:
        episode = writer.episode(task="follow")
        facts = {"observation.state": np.zeros(1, np.float32), "action": np.zeros(1, np.float32)}
        episode.add({**facts, "chunk.step": 0, "next.reward": 0.0, "next.success": False})
        episode.end()
    with pytest.raises(UsageError, match=r"E301 .*is no rollout of a group"):
        trained(folder, config, resume=True)


def test_starts_of_a_pool_are_skipped_when_they_are_solved(start: dict[str, str], tmp_path: Path) -> None:
    """Everything is solved here, so each start is played, skipped twice, and played again."""
    config = configured(
        start,
        start_pool=4,
        demo_batch_size=4,
        rollout_goal_per_step=0,
        num_train_steps=7,
        rollout_skip_threshold=2,
        enable_dynamic_sampling=False,
        learning_rate=1e-9,
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(follow, "NEAR", 10.0)
    trained(tmp_path / "run", config)
    patch.undo()
    waves = list(Ledger(tmp_path / "run"))
    assert [len(wave.groups) for wave in waves] == [4, 0, 0, 4, 0, 0, 4]
    assert [len(wave.skipped) for wave in waves] == [0, 4, 4, 0, 4, 4, 0]
    assert [len(wave.again) for wave in waves] == [0, 0, 0, 4, 0, 0, 4]


def test_a_solved_start_is_played_where_nothing_is_to_be_skipped(start: dict[str, str], tmp_path: Path) -> None:
    config = configured(
        start, start_pool=3, rollout_goal_per_step=0, num_train_steps=3, enable_state_skipping=False
    )
    patch = pytest.MonkeyPatch()
    patch.setattr(follow, "NEAR", 10.0)
    trained(tmp_path / "run", config)
    patch.undo()
    assert sums(Ledger(tmp_path / "run"))["groups"] == 9


def test_every_chunk_is_learnt_with_its_rollouts_advantage(start: dict[str, str], tmp_path: Path) -> None:
    """Upstream keeps the first chunk of each rollout."""
    config = configured(start, num_train_steps=1)
    program = trained(tmp_path / "run", config)
    outcomes = [one for wave in program.collector.ledger for one in wave.outcomes(dropped=False)]
    chunks = program.chunks(outcomes)
    assert len(chunks) == 2 * len(outcomes)  # episodes of two chunks
    compared, _ = program.advantages(outcomes)
    np.testing.assert_allclose(
        chunks.advantage.numpy(), np.repeat(compared.advantages, 2).astype(np.float32), atol=1e-6
    )
    rollouts = read(tmp_path / "run" / "rollouts", [one.file for one in compared.outcomes])
    np.testing.assert_array_equal(
        chunks.observations["observation.state"].numpy(),
        np.concatenate([rollout.state[rollout.begins] for rollout in rollouts]),
    )
    np.testing.assert_array_equal(
        chunks.observations["action"].numpy(),
        np.concatenate([rollout.action.reshape(2, 2, 1) for rollout in rollouts]),
    )


def test_chunks_that_are_compared_with_what_was_running(start: dict[str, str], tmp_path: Path) -> None:
    """All episodes have two chunks, so that the advantages are the rollouts'; what teaches nothing is left out."""
    config = configured(start, num_train_steps=1, enable_dynamic_sampling=False)
    program = trained(tmp_path / "run", config)
    outcomes = [one for wave in program.collector.ledger for one in wave.outcomes(dropped=True)]
    whole = program.chunks(outcomes)
    program.config = replace(config, credit="running")
    found, teaches = program.chunks(outcomes), whole.advantage != 0
    assert 0 < len(found) == int(teaches.sum()) < len(whole)
    np.testing.assert_allclose(found.advantage.numpy(), whole.advantage[teaches].numpy(), atol=1e-6)
    assert torch.equal(found.tokens, whole.tokens[teaches][:, : found.tokens.shape[1]])


def test_a_flow_has_the_advantages_of_rollouts(start: dict[str, str], tmp_path: Path) -> None:
    """``credit`` is of ``ppo``, as the ratio is."""
    config = configured(start, optimisation="cfg", num_train_steps=1)
    program = trained(tmp_path / "run", config)
    outcomes = [one for wave in program.collector.ledger for one in wave.outcomes(dropped=False)]
    whole = program.chunks(outcomes)
    program.config = replace(config, credit="running")
    assert torch.equal(program.chunks(outcomes).advantage, whole.advantage)


@pytest.mark.parametrize("options", [{"ratio": "token"}, {"reward": "return"}, {"precision": "bf16"}])
def test_options_run(start: dict[str, str], tmp_path: Path, options: dict[str, str]) -> None:
    trained(tmp_path / "run", configured(start, num_train_steps=1, **options))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    assert np.isfinite(row["policy_loss"])


def test_another_temperature_is_scored_with_it(start: dict[str, str], tmp_path: Path) -> None:
    trained(tmp_path / "run", configured(start, num_train_steps=1, temperature=1.4))
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["drift"] < 1e-5


@pytest.mark.parametrize("size", [5, 7, 64])
def test_accumulation_is_right_for_the_last_part(
    start: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The same gradients, whatever parts a batch is computed in; upstream drops the last and scales the others."""
    config = configured(start, num_train_steps=1, batch_size=size, gradient_accumulation_steps=1, target_kl=None)
    program = Program(config, Run(tmp_path / "run", config, out=io.StringIO()))
    waves = program.collector.collect(program.policy, 0)
    chunks = program.chunks(program.collector.outcomes(waves))
    gradients: list[Any] = []

    def keep(self: Any, *args: Any, **options: Any) -> None:
        rows = [parameter.grad for group in self.param_groups for parameter in group["params"]]
        gradients.append(torch.cat([row.flatten() for row in rows if row is not None]).clone())

    monkeypatch.setattr(torch.optim.AdamW, "step", keep)
    found = []
    for parts in (1, 3):
        gradients = []
        generator = torch.Generator().manual_seed(0)
        told = update(
            program._optimisation,
            chunks,
            replace(config, gradient_accumulation_steps=parts),
            generator,
            share=0.0,
        )
        assert told.epochs == 2
        found.append(torch.stack(gradients))
    steps = -(-len(chunks) // size)
    assert len(found[0]) == 2 * steps  # the last batch of an epoch, which is shorter, is a step too
    assert len(chunks) % size or size == 64
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-6)


def test_the_guided_loss_needs_a_policy_of_a_flow(start: dict[str, str], tmp_path: Path) -> None:
    for name, optimisation in (("tokens", "cfg"), ("flow", "ppo")):
        config = replace(SMALL, start=start[name], optimisation=optimisation)
        with pytest.raises(UsageError, match=r"E001 .*; wanted is a policy of"):
            trained(tmp_path / name, config)


def test_the_guided_loss_goes_on_where_it_stopped(start: dict[str, str], tmp_path: Path) -> None:
    config = configured(start, optimisation="cfg", cfg_scale=2.0)
    trained(tmp_path / "whole", config)
    trained(tmp_path / "cut", config, until=2)
    trained(tmp_path / "cut", config, resume=True)
    same(tmp_path / "whole", tmp_path / "cut")
    assert json.loads((tmp_path / "whole" / "step_4" / "metadata.json").read_text())["cfg_scale"] == 2.0
    assert not any(episode["chunk.tokens_mask"].any() for episode in episodes(tmp_path / "whole").values())


@pytest.mark.parametrize("optimisation", ["ppo", "cfg"])
def test_success_rises_where_the_right_action_is_seen(
    start: dict[str, str], tmp_path: Path, optimisation: str
) -> None:
    config = configured(
        start,
        optimisation=optimisation,
        num_train_steps=14,
        demo_batch_size=8,
        rloo_batch_size=8,
        rollout_goal_per_step=0,
        batch_size=32,
        gradient_accumulation_steps=1,
        lanes=64,
        learning_rate=2e-3,
        num_ppo_epochs=3,
        save_interval=0,
    )
    run = Run(tmp_path / "run", config, out=io.StringIO())
    with Program(config, run) as program:
        before = program.evaluate(episodes=200).success
        program.train()
        after = program.evaluate(episodes=200).success
    assert before.apart(after)
    assert after.rate > before.rate + 0.2
