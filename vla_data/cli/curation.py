"""What ``align`` and ``build`` curate: rollouts, or the episodes of any other format, with the same recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import click

from vla_data.cli.conversion import FORMAT_OPTIONS, READING, feature_options, format_options, steps_of
from vla_data.cli.filtering import filter_option, filtered
from vla_data.cli.options import (
    Command,
    changed,
    engine_option,
    recipe_options,
    run_options,
    source_options,
    stack,
)
from vla_data.core import Source
from vla_data.core.curate import Step, describe
from vla_data.errors import UsageError
from vla_data.formats import beside, find, open_source
from vla_data.safety.text import show
from vla_data.selection.mapping import first_of
from vla_data.selection.subset import Selection, select
from vla_data.steps import RequireSuccess, Rl4vlaCompat, SmallActions

_LAYOUT: Final = {"translation": [0, 1, 2], "rotation": [3, 4, 5], "gripper": [6]}
_AS_IT_IS: Final = (
    "a LeRobot dataset is taken as it is, not curated; an option of the recipe, such as --min-success-steps 6, "
    "curates it"
)


curation_options: Final[Callable[[Command], Command]] = stack(
    recipe_options,
    source_options,
    format_options,
    feature_options,
    filter_option,
    run_options,
    engine_option,
)
"""Options of ``align`` and ``build``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curation:
    """A source and what is done with it.

    Attributes:
        source: of the episodes.
        steps: features first, then the recipe.
        folder: where it lies.
        warnings: what a person should know, a line each.
    """

    source: Source
    steps: tuple[Step, ...]
    folder: Any
    warnings: tuple[str, ...] = ()


def curation(
    ctx: click.Context, address: str, options: dict[str, Any], definition: Any, **reading: Any
) -> Curation:
    """What the options of a command ask for, which are taken out of ``options``.

    Args:
        ctx: of the command.
        address: of the source.
        options: with those of `FORMAT_OPTIONS` and of ``feature_options``.
        definition: the recipe with its options.
        reading: how rollouts are read.

    Raises:
        UsageError: E001 for options that the source's format does not have, E231 for thresholds in metres on
            actions that are not in metres.
    """
    name, folder = find(address)
    episodes = options.pop("episodes")
    given = {key: options.pop(key) for key in FORMAT_OPTIONS}
    given = {key: value for key, value in given.items() if value not in (None, ())}
    if name in ("ppo_rollout", "lerobot"):
        for key in given.keys() - ({"task"} if name == "ppo_rollout" else set()):
            raise UsageError("E001", f"--{key.replace('_', '-')} is not an option of format {name}")
        source = definition.source(folder, max_episodes=options["max_episodes"], **reading)
        recipe = definition.steps(folder)
    else:
        chosen = changed(ctx, dict.fromkeys(key for key in READING if key in ctx.params and key not in given))
        source = open_source(f"{name}:{folder}", **given, **chosen)
        recipe = definition.steps(None)
        most = options["max_episodes"]
        if most is not None and most < len(source.episodes()):
            source = Selection(source, tuple(range(most)))
    source = select(source, episodes)
    features = steps_of(source, options)
    if name != "ppo_rollout" and recipe:
        recipe = _fitting(source, features, recipe, ctx)
    warnings: tuple[str, ...] = (_AS_IT_IS,) if name == "lerobot" and not recipe else ()
    if isinstance(folder, Path):
        warnings += beside(folder, name)
    steps = filtered(source, (*features, *recipe), options)
    return Curation(source=source, steps=steps, folder=folder, warnings=warnings)


def _fitting(
    source: Source, features: Sequence[Step], recipe: Sequence[Step], ctx: click.Context
) -> tuple[Step, ...]:
    """The recipe for actions of this meaning: thresholds are metres and radians, and the gripper begins open."""
    first = first_of(source)
    schema = describe(source.schema(first), features)
    told: Mapping[str, Any] = schema.features["action"].convention if "action" in schema.features else {}
    is_silent = "next.success" not in schema.features and first.meta.success is None
    needed = any(isinstance(step, RequireSuccess) for step in recipe) and is_silent
    lacking = "; and nothing says which episodes are solved (--min-success-steps 0 keeps all)" if needed else ""
    out: list[Step] = []
    for step in recipe:
        if isinstance(step, SmallActions | Rl4vlaCompat) and (step.pos, step.rot) != (None, None):
            _check(told, lacking)
        if isinstance(step, SmallActions):
            if (step.pos, step.rot) == (None, None):
                continue  # every step moves
            if told.get("gripper_open") is not None and not changed(ctx, {"initial_gripper": None}):
                step = replace(step, initial_gripper=float(told["gripper_open"]))
        out.append(step)
    return tuple(out)


def _check(told: Mapping[str, Any], lacking: str) -> None:
    wanted = {"kind": "delta", "translation_unit": "m", "rotation_unit": "rad"}
    wrong = [
        f"{key} {show(told.get(key, 'undeclared'))}" for key, value in wanted.items() if told.get(key) != value
    ]
    layout = {key: list(value) for key, value in dict(told.get("layout") or {}).items()}
    if layout != _LAYOUT:
        wrong.append("a layout that is not translation, rotation, gripper")
    if wrong:
        ways = [
            "declare what they are (--declare action:KEY=VALUE)",
            "or keep idle steps (--pos-thresh none --rot-thresh none)",
        ]
        if "controller" in (told.get("translation_unit"), told.get("rotation_unit")):  # whose scale is known
            ways = ["convert them (--actions physical)", *ways]
        raise UsageError(
            "E231",
            f"idle steps are those below --pos-thresh metres and --rot-thresh radians, but the actions have "
            f"{', '.join(wrong)}; {', '.join(ways)}{lacking}",
        )
