"""Checkpoints: every key and shape is accounted for, nothing is random in silence, and runs go on bit by bit."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("mujoco")

from tests.training.small import demonstrations, policy  # noqa: E402
from training_adapters import checkpoints, params  # noqa: E402
from training_adapters.policies.value import ActorCritic  # noqa: E402
from training_adapters.ppo.config import PRESETS, PPOConfig  # noqa: E402
from training_adapters.ppo.program import Program  # noqa: E402
from training_adapters.runs import Run  # noqa: E402
from vla_data.errors import DataError, TargetExistsError, UsageError  # noqa: E402

PI0 = {
    "PaliGemma/llm/embedder/input_embedding": np.ones((4, 2), dtype=np.float32),
    "PaliGemma/img/head/kernel": np.zeros((2, 3), dtype=np.float32),
    "PaliGemma/img/scale": np.float32(2.5).reshape(()),
}


def save(folder: Path, model: Any) -> Path:
    checkpoints.save(folder / "step_3", model, {"env": "tabletop", "update_step": 3})
    return folder / "step_3"


@pytest.mark.parametrize("rl", [False, True])
def test_a_checkpoint_comes_back(tmp_path: Path, rl: bool) -> None:
    model = ActorCritic(policy(updates=2)) if rl else policy(updates=2)
    saved = checkpoints.load(save(tmp_path, model))
    assert saved.form == ("rl" if rl else "il")
    back = saved.actor_critic()[0] if rl else saved.policy()
    for name, value in model.state_dict().items():
        assert torch.equal(value, back.state_dict()[name])
    chunks = [
        each.act(demonstrations().batch(torch.arange(4)), torch.Generator().manual_seed(0))
        for each in (model, back)
    ]
    assert torch.equal(chunks[0].actions, chunks[1].actions)


def test_names_and_facts_of_a_checkpoint(tmp_path: Path) -> None:
    folder = save(tmp_path, ActorCritic(policy()))
    names = params.read(folder / "params")
    assert all(name.startswith(("actor_backbone/", "value_head/")) for name in names)
    facts = json.loads((folder / "metadata.json").read_text())
    assert facts["config"]["format"] == "rl_actor_critic"
    assert (facts["config"]["action_dim"], facts["config"]["action_horizon"], facts["update_step"]) == (7, 8, 3)


def test_of_a_run_the_last_checkpoint_is_meant(tmp_path: Path) -> None:
    for number in (9, 10):
        checkpoints.save(tmp_path / f"step_{number}", policy(), {"update_step": number})
    assert checkpoints.load(tmp_path).metadata["update_step"] == 10


def test_a_policy_of_imitation_becomes_an_actor_with_a_new_value_head(tmp_path: Path) -> None:
    actor = policy(updates=2)
    model, whole = checkpoints.load(save(tmp_path, actor)).actor_critic()
    assert not whole
    for name, value in actor.state_dict().items():
        assert torch.equal(value, model.actor_backbone.state_dict()[name])


def test_a_value_head_goes_on(tmp_path: Path) -> None:
    model = ActorCritic(policy())
    back, whole = checkpoints.load(save(tmp_path, model)).actor_critic()
    assert whole
    batch = demonstrations().batch(torch.arange(4))
    assert torch.equal(model.value(batch), back.value(batch))


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped"])
def test_parameters_that_do_not_all_fit_are_refused(tmp_path: Path, change: str) -> None:
    """Upstream catches the error and goes on with random parameters."""
    folder = save(tmp_path, policy())
    stored = params.read(folder / "params")
    if change == "missing":
        del stored["out/bias"]
    elif change == "unexpected":
        stored["lora/a"] = np.zeros(3, dtype=np.float32)
    else:
        stored["out/bias"] = stored["out/bias"][:-1]
    shutil.rmtree(folder / "params")
    params.write(folder / "params", stored)
    with pytest.raises(UsageError, match=r"E301 .*(out/bias|lora/a)") as caught:
        checkpoints.load(folder).policy()
    words = {"missing": "1 missing", "unexpected": "1 unexpected", "reshaped": "1 of another shape"}
    assert words[change] in caught.value.message


def test_forms_of_checkpoints() -> None:
    actor, head = params.as_actor(PI0), {"value_head/dense/kernel": np.zeros(1)}
    assert params.form(PI0) == "il"
    assert params.form(actor) == "actor"
    assert params.form(actor | head) == "rl"
    assert next(iter(actor)) == "actor_backbone/PaliGemma/llm/embedder/input_embedding"
    with pytest.raises(DataError, match="a value head and no actor_backbone"):
        params.form(head)


def test_value_levels_and_random_states_are_no_parameters() -> None:
    """openpi strips a ``value`` level only where all leaves have it, and flax keeps states of dropout."""
    found = params.clean(
        {"a/kernel/value": np.zeros(2), "b/bias": np.zeros(1), "drop/rngs/key/value": np.zeros(2)}
    )
    assert params.shapes(found) == {"a/kernel": (2,), "b/bias": (1,)}


@pytest.mark.parametrize("orbax", [False, True])
def test_both_forms_of_files_are_told_apart_and_read(tmp_path: Path, orbax: bool) -> None:
    if orbax:
        pytest.importorskip("orbax.checkpoint")
    params.write(tmp_path / "params", params.as_actor(PI0), orbax=orbax)
    back = params.read(tmp_path / "params")
    assert params.shapes(back) == params.shapes(params.as_actor(PI0))
    assert all(np.array_equal(back[name], value) for name, value in params.as_actor(PI0).items())


@pytest.mark.nightly
def test_what_orbax_wrote_is_read_and_what_we_wrote_orbax_reads(tmp_path: Path) -> None:
    """As openpi saves: an item ``{"params": tree}``, each leaf below a level ``value`` where nnx has one."""
    orbax, jax = pytest.importorskip("orbax.checkpoint"), pytest.importorskip("jax")
    tree = params.nested(params.as_actor(PI0))
    theirs = jax.tree.map(lambda leaf: {"value": jax.numpy.asarray(leaf)}, tree)
    with orbax.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "theirs", {"params": theirs})
    back = params.read(tmp_path / "theirs")
    assert params.shapes(back) == params.shapes(params.as_actor(PI0))
    assert all(np.array_equal(back[name], value) for name, value in params.as_actor(PI0).items())
    params.write(tmp_path / "ours", back, orbax=True)
    with orbax.PyTreeCheckpointer() as checkpointer:
        restored = params.flat(checkpointer.restore(tmp_path / "ours")["params"])
    assert set(restored) == set(back)
    assert all(np.array_equal(restored[name], value) for name, value in back.items())
    (tmp_path / "theirs" / "_METADATA").unlink()
    (tmp_path / "theirs" / "manifest.ocdbt").unlink()
    with pytest.raises((DataError, UsageError), match=r"E105|E003"):
        params.read(tmp_path / "theirs")


def test_a_folder_without_parameters_is_refused(tmp_path: Path) -> None:
    (tmp_path / "params").mkdir()
    with pytest.raises(UsageError, match=r"E003 .*holds no parameters"):
        params.read(tmp_path / "params")
    with pytest.raises(UsageError, match=r"E003 .*not a checkpoint and has none inside"):
        checkpoints.load(tmp_path / "nothing")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path, policy())
    path = folder / "params" / params.SAFETENSORS
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"E105 .*model.safetensors"):
        checkpoints.load(folder)


TINY = replace(
    PRESETS["debug"],
    total_timesteps=10_000_000,
    num_chunks_per_update=8,
    lanes=4,
    batch_size=3,
    accumulate=2,
    eval_episodes=0,
    demos=9,
    demo_updates=3,
    value_warmup=1,
)


def program(folder: Path, config: PPOConfig = TINY, *, resume: bool = False) -> Program:
    return Program(config, Run(folder, config, resume=resume, out=io.StringIO()), resume=resume)


def lines(folder: Path) -> list[dict[str, float]]:
    """The metrics that depend on nothing but the data."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "cpu" not in name} for row in rows]


def test_a_run_that_is_killed_and_resumed_is_the_run_that_was_not(tmp_path: Path) -> None:
    """Parameters, the optimiser, episodes in the middle, metrics: bit by bit."""
    whole = program(tmp_path / "whole").train(until=4)
    program(tmp_path / "cut").train(until=2)
    killed = program(tmp_path / "cut", resume=True)
    killed.train(until=3)
    shutil.rmtree(tmp_path / "cut" / "step_3")  # killed after metrics, before its checkpoint
    resumed = program(tmp_path / "cut", resume=True).train(until=4)
    first, second = params.read(whole / "params"), params.read(resumed / "params")
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    states = [(folder / "train_state" / "state.json").read_text() for folder in (whole, resumed)]
    assert states[0] == states[1]
    assert str(lines(tmp_path / "whole")) == str(lines(tmp_path / "cut"))


def test_a_run_learns_something(tmp_path: Path) -> None:
    """Each update after the value head's changes the actor, and the counts are those of the chunks."""
    made = program(tmp_path / "run")
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    made.train(until=1)
    moved = {name for name, value in made.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("value_head") for name in moved)
    made.train(until=2)
    assert not torch.equal(made.model.state_dict()["actor_backbone.out.bias"], before["actor_backbone.out.bias"])
    assert (made.counts.updates, made.counts.chunks) == (2, 16)


def test_metrics_have_what_is_promised(tmp_path: Path) -> None:
    made = program(tmp_path / "run")
    made.train(until=1)
    promised = {"episode_reward", "chunk_reward", "policy_loss", "value_loss", "clip_share", "kl", "progress"}
    (row,) = lines(tmp_path / "run")
    assert promised <= row.keys()
    assert row["kl"] < 1e-9  # nothing but the value head has learnt yet: the ratio is 1
    assert abs(row["clip_share"]) == 0


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    program(tmp_path / "run")
    with pytest.raises(TargetExistsError, match="--resume goes on with it"):
        program(tmp_path / "run")


def test_a_run_does_not_go_on_with_other_options(tmp_path: Path) -> None:
    program(tmp_path / "run").train(until=1)
    with pytest.raises(UsageError, match=r"E301 .*with other options: clip_coef, seed"):
        program(tmp_path / "run", replace(TINY, seed=1, clip_coef=0.1), resume=True)


def test_an_environment_without_an_expert_needs_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never a random start in silence."""
    from training_adapters.envs import table

    row = replace(table.ENVS["tabletop"], expert="")
    monkeypatch.setattr(table, "ENVS", {"tabletop": row})
    with pytest.raises(UsageError, match=r"E231 .*no scripted expert to clone: give a checkpoint"):
        program(tmp_path / "run")


def test_presets_have_the_published_numbers() -> None:
    debug, full = PRESETS["debug"], PRESETS["full"]
    assert (debug.total_timesteps, debug.num_chunks_per_update, debug.num_epochs_per_update) == (5_000, 32, 2)
    assert (debug.batch_size, debug.learning_rate) == (8, 1e-4)
    assert (full.total_timesteps, full.num_chunks_per_update, full.num_epochs_per_update) == (500_000, 128, 4)
    assert (full.batch_size, full.learning_rate) == (32, 3e-4)
    plain = PPOConfig()
    assert (plain.clip_coef, plain.ent_coef, plain.vf_coef, plain.max_grad_norm) == (0.2, 0.01, 0.5, 0.5)
    assert (plain.gamma, plain.gae_lambda, plain.seed, plain.total_timesteps) == (0.99, 0.95, 42, 100_000)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_a_ratio_is_one_before_the_first_update_at_the_temperature_of_sampling(temperature: float) -> None:
    from training_adapters.ppo.buffer import Rollout
    from training_adapters.ppo.update import METRICS, Told, losses

    model, batch = ActorCritic(policy()), demonstrations().batch(torch.arange(6))
    chunk = model.act(batch, torch.Generator().manual_seed(0), temperature=temperature)
    seen = {name: batch[name] for name in ("observation.state", "task")}
    part = Rollout(seen, chunk.tokens, chunk.mask, chunk.log_prob, torch.ones(6), torch.zeros(6))
    told = Told()
    losses(model, part, replace(TINY, temperature=temperature, ratio="token"), told)
    found = dict(zip(METRICS, told.rows[0], strict=True))
    assert found["kl"] == pytest.approx(0.0, abs=1e-5)
    assert found["policy_loss"] == pytest.approx(-1.0, abs=1e-4)


def test_the_entropy_counts() -> None:
    """Upstream has the option and never uses it."""
    from training_adapters.ppo.buffer import Rollout
    from training_adapters.ppo.update import Told, losses

    model, batch = ActorCritic(policy()), demonstrations().batch(torch.arange(6))
    chunk = model.act(batch, torch.Generator().manual_seed(0))
    seen = {name: batch[name] for name in ("observation.state", "task")}
    part = Rollout(seen, chunk.tokens, chunk.mask, chunk.log_prob, torch.zeros(6), torch.zeros(6))
    found = [losses(model, part, replace(TINY, ent_coef=weight), Told()) for weight in (0.0, 1.0)]
    entropy = model.score(batch, chunk.tokens, chunk.mask).entropy.sum(1) / chunk.mask.sum(1)
    torch.testing.assert_close(found[0] - found[1], entropy)
