"""``vla-train``: train a policy, and measure it. Each command is a few lines over its program."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from training_adapters.recap.commands import recap
from training_adapters.settings import Settings, facts_of, settings_of
from vla_data._version import __version__
from vla_data.cli import command_line, emit, print_json
from vla_data.cli.options import Command, stack
from vla_data.errors import TargetExistsError, UsageError, VlaDataError
from vla_data.files.write import machine_errors, write_file
from vla_data.installed import missing
from vla_data.safety.text import show

if TYPE_CHECKING:
    from training_adapters.runs import Run

_EXTRA: Final = {"torch", "accelerate", "safetensors", "tokenizers", "gymnasium", "mujoco"}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vla-train")
def cli() -> None:
    """Small policies learn from rollouts and datasets, with figures that can be checked."""


def _common_of(*, named: bool) -> Callable[[Command], Command]:
    """The options of every program; the run's name may be left out where it is not ``named``."""
    return stack(
        click.option("--exp-name", required=named, help="Name of the run: its folder in --runs."),
        click.option(
            "--runs",
            type=click.Path(path_type=Path),
            default=Path("runs"),
            show_default=True,
            help="Where runs are.",
        ),
        click.option(
            "--config", default="laptop", show_default=True, help="debug, laptop, full, or a TOML/JSON file."
        ),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One option of it; repeat."),
        click.option("--resume", is_flag=True, help="Go on with the run from its last checkpoint."),
        click.option("--wandb/--no-wandb", default=False, help="Log to Weights & Biases too.  [default: no]"),
        click.option("--json", "as_json", is_flag=True, help="The result as one JSON object."),
        click.option("--debug", is_flag=True, help="Show where a defect is."),
    )


_common = _common_of(named=True)
_from = stack(
    click.option("--env", help="Environment, for example tabletop or gym_aloha/AlohaTransferCube-v0."),
    click.option(
        "--start", metavar="CHECKPOINT", help="Policy to begin with.  [default: cloned from a scripted expert]"
    ),
    click.option("--from-scratch", is_flag=True, help="Begin with random parameters."),
)


cli.add_command(recap)


@cli.command()
@_common
@_from
@click.option(
    "--record", type=click.Path(path_type=Path), help="Write every episode of training here, as rollouts."
)
def ppo(env: str | None, start: str | None, from_scratch: bool, record: Path | None, **common: Any) -> None:
    """Train a policy by chunk PPO, and compare it with its start on held-out episodes."""
    _need_extra()
    from training_adapters.ppo.config import PRESETS, PPOConfig
    from training_adapters.ppo.program import Program

    given = _given(env, start, scratch=from_scratch)
    options, run = _begin(PPOConfig, {name: facts_of(preset) for name, preset in PRESETS.items()}, given, common)
    with Program(options, run, resume=common["resume"], record=record) as program:
        before = program.before() if options.eval_episodes else None
        folder = program.train()
        after = program.evaluate() if options.eval_episodes else None
    _finish(run, folder, before, after, as_json=common["as_json"])


@cli.command()
@click.option(
    "--mode",
    type=click.Choice(("train", "info", "test", "demo")),
    default="train",
    show_default=True,
    help="Train; say what there is; check the formulas here; or play two groups and show them.",
)
@_common_of(named=False)
@_from
def ript(mode: str, env: str | None, start: str | None, from_scratch: bool, **common: Any) -> None:
    """Train a policy on groups of rollouts from the same start, by leave-one-out advantages."""
    _need_extra()
    from training_adapters.ript import modes
    from training_adapters.ript.config import ELSEWHERE, PRESETS, RIPTConfig
    from training_adapters.ript.program import Program

    if mode == "info":
        emit("\n".join(modes.info()))
        return
    if mode == "test":
        emit("\n".join(modes.test()))
        return
    given = _given(env, start, scratch=from_scratch)
    presets = {name: facts_of(preset) for name, preset in PRESETS.items()}
    if mode == "demo":
        options = settings_of(
            RIPTConfig, presets | {"laptop": modes.DEMO}, common["config"], common["settings"], given, ELSEWHERE
        )
        emit("\n".join(modes.demo(options, common["runs"] / common["exp_name"] if common["exp_name"] else None)))
        return
    if not common["exp_name"]:
        raise UsageError("E001", "--exp-name is missing: the name of the run, its folder in --runs")
    options, run = _begin(RIPTConfig, presets, given, common, ELSEWHERE)
    with Program(options, run, resume=common["resume"]) as program:
        before = program.before() if options.eval_episodes else None
        folder = program.train()
        after = program.evaluate() if options.eval_episodes else None
    _finish(run, folder, before, after, as_json=common["as_json"])


@cli.command()
@_common
@click.option("--dataset", required=True, help="What to learn: a path or FORMAT:PATH.")
@click.option("--env", help="Environment to be evaluated in.  [default: tabletop]")
@click.option("--start", metavar="CHECKPOINT", help="Policy to go on with.  [default: a new one]")
@click.option("--obs", help="What a new policy observes: state, or pixels.  [default: state]")
def sft(dataset: str, env: str | None, start: str | None, obs: str | None, **common: Any) -> None:
    """Train a policy on a dataset, for example one that vla-data align made of rollouts."""
    _need_extra()
    from training_adapters.sft.config import PRESETS, SFTConfig
    from training_adapters.sft.program import Program

    given = {"dataset": dataset, "env": env, "start": start, "obs": obs}
    options, run = _begin(SFTConfig, PRESETS, given, common)
    program = Program(options, run, resume=common["resume"])
    folder = program.train()
    after = program.evaluate() if options.eval_episodes else None
    _finish(run, folder, None, after, as_json=common["as_json"])


@cli.command()
@_common
@click.option("--dataset", required=True, help="What to learn, in physical units: a path or FORMAT:PATH.")
@click.option("--env", help="Environment to be evaluated in.  [default: none]")
def rdt(dataset: str, env: str | None, **common: Any) -> None:
    """Train a flow policy in RDT's 128 slots; data with a known mistake, such as a wrong unit, are refused."""
    _need_extra()
    from training_adapters.rdt.config import PRESETS, RdtConfig
    from training_adapters.rdt.program import start

    options, run = _begin(RdtConfig, PRESETS, {"dataset": dataset, "env": env}, common)
    program = start(options, run)
    folder = program.train()
    after = program.evaluate() if options.eval_episodes else None
    _finish(run, folder, None, after, as_json=common["as_json"])


_player_options = stack(
    click.option("--env", help="Environment.  [default: the checkpoint's]"),
    click.option("--temperature", type=click.FloatRange(0), help="Of sampling; 0 is greedy.  [default: 1]"),
    click.option("--debug", is_flag=True, help="Show where a defect is."),
)


@cli.command("eval")
@click.option("--checkpoint", required=True, help="A checkpoint, or a run whose last one is meant.")
@_player_options
@click.option("--episodes", type=click.IntRange(1), default=240, show_default=True, help="Held-out starts.")
@click.option("--starts-seed", type=click.IntRange(0), help="Of the held-out starts.  [default: 10000]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of sampling.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Result file.  [default: eval.json in the checkpoint]"
)
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
def evaluate_command(
    checkpoint: str,
    episodes: int,
    env: str | None,
    temperature: float | None,
    starts_seed: int | None,
    seed: int,
    out: Path | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Success of a policy on held-out starts: n of N by task, with Wilson's 95 % intervals."""
    _need_extra()
    from training_adapters.envs.starts import HELD_OUT_SEED
    from training_adapters.evaluate import evaluate, table

    saved, playing = _player(checkpoint, env, episodes=episodes, temperature=temperature, seed=seed)
    out = _result_file(out or saved.folder)
    found = evaluate(**playing, starts_seed=HELD_OUT_SEED if starts_seed is None else starts_seed)
    facts = found.to_json() | {"checkpoint": str(saved.folder), "dataset": saved.metadata.get("dataset")}
    with machine_errors("cannot write the result"):
        write_file(out, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    if as_json:
        print_json(facts)
    else:
        emit("\n".join(table(found)))


@cli.command()
@click.option("--checkpoint", help="A checkpoint, or a run whose last one is meant.")
@click.option("--expert", is_flag=True, help="The scripted expert of --env, or tabletop, plays instead.")
@_player_options
@click.option("--episodes", type=click.IntRange(1), default=500, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of starts and sampling.")
@click.option("--images/--no-images", default=True, show_default=True, help="Record what the camera sees.")
@click.option("--camera", "cameras", multiple=True, help="With --expert, record this one; repeat.  [default: top]")
@click.argument("out", type=click.Path(path_type=Path))
def collect(
    checkpoint: str | None,
    expert: bool,
    episodes: int,
    env: str | None,
    seed: int,
    temperature: float | None,
    images: bool,
    cameras: tuple[str, ...],
    debug: bool,
    out: Path,
) -> None:
    """Play a policy, or the expert, and write its episodes into the folder OUT, for vla-data align."""
    if expert == (checkpoint is not None):
        raise UsageError("E001", "give --checkpoint or --expert, one of them: it plays the episodes")
    if expert and temperature is not None:
        raise UsageError("E001", "--temperature works with --checkpoint only; the expert does not sample")
    if cameras and not (expert and images):
        raise UsageError("E001", "--camera works with --expert and images only; a policy's cameras are its own")
    _need_extra()
    from training_adapters.collect import CAMERA
    from training_adapters.collect import collect as played
    from training_adapters.collect_expert import collect_expert
    from training_adapters.envs.table import Place

    how: dict[str, Any] = {"episodes": episodes, "seed": seed}
    if checkpoint is None:
        done = collect_expert(Place.of(env or "tabletop"), out, images=images, cameras=cameras or (CAMERA,), **how)
    else:
        _, playing = _player(checkpoint, env, temperature=temperature, **how)
        tokens = playing["policy"].longest
        done = played(**playing, folder=out, tokens=tokens, images=images)
    emit(f"{done.written} episodes, {done.dropped} dropped for a malformed chunk; solved {done.success}")


def main() -> NoReturn:
    """Run the command line; every failure is one line and an exit code, as of ``vla-data``."""
    command_line(cli, "vla-train")


def _player(
    checkpoint: str, env: str | None, *, temperature: float | None, **how: Any
) -> tuple[Any, dict[str, Any]]:
    """A checkpoint; and its policy, where that plays, and how, by the names of arguments."""
    from training_adapters import checkpoints
    from training_adapters.envs.table import Place

    saved = checkpoints.load(checkpoint)
    policy, place = saved.player(), Place.of(env or str(saved.metadata.get("env", "")))
    how["temperature"] = 1.0 if temperature is None else temperature
    return saved, {"policy": policy, "place": place, "horizon": policy.config.horizon, **how}


def _result_file(out: Path) -> Path:
    """Where a result goes: the file, or ``eval.json`` in the folder. An earlier result is replaced, nothing else.

    Raises:
        TargetExistsError: E411, another file is there.
    """
    from training_adapters.evaluate import Evaluation

    file = out / "eval.json" if out.is_dir() else out
    if os.path.lexists(file):
        try:
            Evaluation.read(file)
        except VlaDataError:
            raise TargetExistsError("E411", f"{show(file)} exists and is no result of vla-train eval") from None
    return file


def _need_extra() -> None:
    try:
        import training_adapters.ppo.program  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise missing(str(error.name), "train") from None


def _given(env: str | None, start: str | None, *, scratch: bool) -> dict[str, Any]:
    """What the options of `_from` say."""
    if start and scratch:
        raise UsageError("E001", "give --start or --from-scratch, not both")
    return {"env": env, "start": "scratch" if scratch else start}


def _begin(
    kind: type[Settings],
    presets: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
    common: Mapping[str, Any],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Settings, Run]:
    """The options of a program, and its run, by the options of `_common`."""
    from training_adapters.runs import Run

    options = settings_of(kind, presets, common["config"], common["settings"], given, elsewhere)
    folder = common["runs"] / common["exp_name"]
    return options, Run(folder, options, resume=common["resume"], wandb=common["wandb"])


def _finish(run: Any, folder: Path, before: Any, after: Any, *, as_json: bool) -> None:
    from training_adapters.evaluate import table

    facts: dict[str, Any] = {"checkpoint": str(folder)}
    for name, found in (("before", before), ("after", after)):
        if found is not None:
            facts[name] = found.to_json()
    with machine_errors("cannot write the result"):
        write_file(run.folder / "result.json", (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
    if as_json:
        print_json(facts)
        return
    emit(f"checkpoint {folder}")
    for name, found in (("before", before), ("after", after)):
        if found is not None:
            emit("\n".join([f"{name}, on held-out starts:", *table(found)]))
    if before is not None and after is not None:
        apart = "do not overlap" if before.success.apart(after.success) else "overlap"
        emit(f"{before.success} -> {after.success}: the intervals {apart}")


if __name__ == "__main__":
    main()
