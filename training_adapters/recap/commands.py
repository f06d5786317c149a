"""``vla-train recap``: the stages one by one, the loop, and the table of controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training_adapters.settings import settings_of
from vla_data.cli import emit, print_json
from vla_data.cli.options import stack
from vla_data.errors import UsageError

if TYPE_CHECKING:
    from training_adapters.recap.project import Project

STAGES = ("sft", "value", "rollout", "value-finetune", "advantage", "policy-finetune")

_options = stack(
    click.option("--debug", is_flag=True, help="Show where a defect is."),
    click.option("--json", "as_json", is_flag=True, help="The result as one JSON object."),
    click.option(
        "--accept-weak-critic",
        is_flag=True,
        help="Train on advantages of a critic that is no better than a guess.",
    ),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One option of it; repeat."),
    click.option("--config", help="debug, laptop, full, or a TOML/JSON file.  [default: the run's, or laptop]"),
    click.option(
        "--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where runs are."
    ),
    click.option("--exp-name", required=True, help="Name of the run: its folder in --runs."),
)


@click.group()
def recap() -> None:
    """RECAP: a critic says which actions were good, and a policy learns to do these when it is asked."""


def _stage(name: str) -> Callable[..., None]:
    @_options
    @click.option("--round", "number", type=click.IntRange(1), help="Which.  [default: the first that lacks it]")
    def command(number: int | None, as_json: bool, **common: Any) -> None:
        from training_adapters.recap import stages

        project = _project(common)
        if name in stages.ROUND:
            done = stages.ROUND[name](project, number or _first_without(project, name))
        elif number is not None:
            raise UsageError("E001", f"{name} is done once, before all rounds: leave --round out")
        else:
            done = (stages.sft if name == "sft" else stages.value)(project)
        print_json(done) if as_json else emit(f"{name}: done")

    helps = {
        "sft": "Clone the demonstrations: what every round's policy begins with.",
        "value": "Train a critic on demonstrations: what every round's critics begin with.",
        "rollout": "Play the last policy, and write its episodes as a LeRobot dataset.",
        "value-finetune": "Value every episode by a critic that has not seen it, and say what that is worth.",
        "advantage": "Annotate the rollouts with advantages and labels.",
        "policy-finetune": "Train the policy on the labels, and measure it.",
    }
    recap.command(name, help=helps[name])(command)
    return command


for _name in STAGES:
    _stage(_name)


@recap.command()
@_options
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="How many, in all.")
def loop(rounds: int, as_json: bool, **common: Any) -> None:
    """Do all stages, in rounds; what is done already is not done again."""
    from training_adapters.recap.rounds import run_rounds

    found = run_rounds(_project(common), rounds)
    if as_json:
        print_json({name: one.to_json() for name, one in found.items()})
    else:
        emit("\n".join(f"  {name:<8}  {one.success}" for name, one in found.items()))


@recap.command()
@_options
@click.option("--look-ahead", "look_aheads", type=click.IntRange(1), multiple=True, help="A further arm; repeat.")
def ablate(look_aheads: tuple[int, ...], as_json: bool, **common: Any) -> None:
    """Train RECAP and its controls on the same data, and print one table."""
    from training_adapters.recap.ablation import ablate as ablated
    from training_adapters.recap.ablation import text

    table = ablated(_project(common), look_aheads)
    if as_json:
        print_json({"arms": [line.to_json() for line in table]})
    else:
        emit("\n".join(text(table)))


def _project(common: dict[str, Any]) -> Project:
    from training_adapters.recap.config import RecapConfig, presets_and
    from training_adapters.recap.project import Project
    from training_adapters.runs import Run

    folder = common["runs"] / common["exp_name"]
    there = (folder / "config.json").is_file()
    name = common["config"] or (str(folder / "config.json") if there else "laptop")
    accept = {"accept_weak_critic": True} if common["accept_weak_critic"] else {}
    config = settings_of(RecapConfig, presets_and(name), name, common["settings"], accept)
    # Consent is asked for each time, and is no part of what a run is.
    run = Run(folder, replace(config, accept_weak_critic=False), resume=there)
    return Project(config, run)


def _first_without(project: Project, stage: str) -> int:
    number = 1
    while project.record(stage, number).path.is_file():
        number += 1
    return number
