"""Options that several commands share, and how a run is shown on a terminal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.types import FloatOrNone, Number, Size
from vla_data.core import Sink, Source
from vla_data.core.curate import Step
from vla_data.errors import UsageError
from vla_data.formats import load_engine
from vla_data.jobs.engine import Engine
from vla_data.jobs.progress import Progress
from vla_data.jobs.report import Report
from vla_data.media.video_settings import VideoSettings
from vla_data.safety.text import show

Command = TypeVar("Command", bound=Callable[..., Any])


def stack(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in this order."""
    return lambda command: functools.reduce(lambda c, option: option(c), reversed(options), command)


def choice(
    name: str, values: Sequence[str], *, help: str, default: str | None = None, multiple: bool = False
) -> Callable[[Command], Command]:
    """An option that is one of some words."""
    if default is not None:
        return shown(name, click.Choice(list(values)), default, help)
    return click.option(name, type=click.Choice(list(values)), multiple=multiple, help=help)


def shown(name: str, kind: Any, default: Any, help: str) -> Callable[[Command], Command]:
    """An option whose default is shown."""
    return click.option(name, type=kind, default=default, show_default=True, help=help)


def allow_images(help: str) -> Callable[[Command], Command]:
    """Which images of rollouts are converted to RGB."""
    return choice("--allow-images", ["gray", "rgba", "chw", "palette"], multiple=True, help=help)


result_options = stack(
    click.option("--debug", is_flag=True, help="Show tracebacks."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
)

recipe_options = stack(
    shown(
        "--min-success-steps",
        click.IntRange(0),
        6,
        "Successes that make an episode solved; it is cut after them. 0 keeps all, uncut.",
    ),
    choice(
        "--success-rule",
        ["consecutive", "cumulative", "last"],
        default="consecutive",
        help="So many in a row, so many in all, or the last flag (then nothing is cut).",
    ),
    shown(
        "--pos-thresh",
        FloatOrNone(),
        0.01,
        "Steps that move less (m), turn less and switch no gripper are pruned.",
    ),
    shown("--rot-thresh", FloatOrNone(), 0.06, "The same, in rad."),
    shown("--initial-gripper", FloatOrNone(), 1.0, "Gripper command in force before step 0; none: unknown."),
    click.option(
        "--gripper-hysteresis",
        type=float,
        nargs=2,
        metavar="LOW HIGH",
        help="For continuous grippers: at or below LOW and at or above HIGH are its two states.",
    ),
    shown("--gripper-window", click.IntRange(0), 0, "Steps kept before and after a gripper switch."),
    shown("--min-length", click.IntRange(1), 1, "Fewest steps left."),
    click.option("--max-length", type=click.IntRange(1), help="Most steps left."),
    choice("--compat", ["rl4vla"], help="What RL4VLA's own builder does, bugs included, for comparisons."),
)

RECIPE = (
    *("min_success_steps", "success_rule", "pos_thresh", "rot_thresh", "initial_gripper", "gripper_hysteresis"),
    *("gripper_window", "min_length", "max_length", "compat"),
)
"""Options of `recipe_options`, by name."""

source_options = stack(
    choice(
        "--info-timing",
        ["auto", "after", "before"],
        default="auto",
        help="Whether info[t] is of after or before action t.",
    ),
    click.option("--fps", type=Number(0, min_open=True), help="Steps per second.  [default: the file's, or 5]"),
    click.option("--image-size", type=Size(), help="Quarantine episodes with images of another size."),
    allow_images("Convert such images to RGB instead of refusing them."),
    click.option("--allow-empty-instruction", is_flag=True, help="Keep episodes without a text."),
    shown(
        "--action-limit", Number(0, min_open=True), 100.0, "Quarantine episodes with an action value beyond this."
    ),
    click.option("--max-episodes", type=click.IntRange(1), help="Read only the first so many files."),
)

image_options = stack(
    choice(
        "--images",
        ["jpeg", "png"],
        default="jpeg",
        help="JPEG (quality 95; JPEG input passes through) or lossless PNG.",
    ),
    choice("--video", ["av1", "h264"], help="Write the cameras as video instead; lossy."),
    shown("--crf", click.IntRange(0, 63), 30, "Video quality; 0 best."),
    shown("--gop", click.IntRange(1), 2, "Frames from key frame to key frame."),
    click.option("--preset", help="The encoder's speed.  [default: 12 for av1, medium for h264]"),
    click.option(
        "--version",
        "lerobot_version",
        type=click.Choice(["v3.0", "v2.1"]),
        help="LeRobot: the format; openpi, GR00T and lerobot before 0.4 read v2.1.  [default: v3.0]",
    ),
)


def lerobot_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the LeRobot sink from those of `image_options`, which are taken out of ``options``.

    Raises:
        UsageError: E001 for values that the encoder refuses, also for the rate of ``--fps`` or ``--resample``,
            and for options that contradict one another.
    """
    names = ("images", "video", "crf", "gop", "preset")
    images, codec, crf, gop, preset = (options.pop(name) for name in names)
    context = click.get_current_context()
    given = changed(context, dict.fromkeys(names))
    version = options.pop("lerobot_version", None)
    more: dict[str, Any] = {} if version is None else {"version": version}
    if codec is None:
        for name in ("crf", "gop", "preset"):
            if name in given:
                raise UsageError("E001", f"--{name} is for video; add --video av1 or --video h264")
        return {"images": images, **more}
    if "images" in given:
        raise UsageError("E001", "give --images or --video, not both")
    try:
        settings = VideoSettings(codec=codec, crf=crf, gop=gop, preset=preset)
    except ValueError as error:
        raise UsageError("E001", show(error, escaped=True)) from None
    fps = context.params.get("resample") or context.params.get("fps")
    if fps is not None:
        settings.check_rate(fps)
    return {"video": settings, **more}


dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Only say what would be done, refused and written; nothing is written."
)

run_options = stack(
    click.option("--workers", type=click.IntRange(1), help="Processes.  [default: one a core]"),
    click.option("--replace", is_flag=True, help="Publish over an existing dataset of ours."),
    click.option(
        "--max-bad",
        type=Number(0, 1),
        help="Refuse when more than this share is quarantined.  [default: 0.1, or one episode]",
    ),
    click.option("--dedup", is_flag=True, help="Drop episodes whose content an earlier one has."),
    dry_run_option,
    result_options,
)

engine_choice = stack(
    choice(
        "--engine",
        ["local", "beam"],
        default="local",
        help="Processes here, or Apache Beam with its own options after --.",
    ),
    click.option("--work", metavar="URL", help="--engine beam: where workers that share no disk leave parts."),
)

engine_option = stack(
    engine_choice,
    click.argument("engine_options", metavar="[-- BEAM_OPTION]...", nargs=-1, type=click.UNPROCESSED),
)

RUN = ("workers", "replace", "max_bad", "dedup")
"""Options that `vla_data.run` takes as they are."""


def settings(options: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Arguments of `vla_data.run` from the options of `run_options`."""
    return {
        **{key: options[key] for key in RUN},
        "engine": _engine(options.get("engine", "local"), options.get("engine_options", ()), options.get("work")),
        **watch(quiet=quiet),
    }


def _engine(name: str, beam_options: tuple[str, ...], work: str | None) -> Engine | None:
    if name == "local":
        if work is not None:
            raise UsageError("E001", "--work works with --engine beam only")
        if beam_options:
            raise UsageError("E001", f"{show(beam_options[0])}: options after -- work with --engine beam only")
        return None
    engine: Engine = load_engine(name)(options=beam_options, work=work)
    return engine


def changed(ctx: click.Context, names: Mapping[str, Any]) -> dict[str, Any]:
    """The values of options that the user gave, by name, of those in ``names``."""
    given = {}
    for name in names:
        source = ctx.get_parameter_source(name)
        if source is not None and source is not click.core.ParameterSource.DEFAULT:
            value = ctx.params[name]
            given[name] = list(value) if isinstance(value, tuple) else value
    return given


def watch(*, quiet: bool, unit: str = "episodes") -> dict[str, Any]:
    """Arguments of `vla_data.run` that show its progress."""
    settings: dict[str, Any] = {"on_problem": say}
    if not quiet:
        settings["on_progress"] = Progress(unit)
    return settings


def show_rehearsal(
    source: Source,
    steps: Sequence[Step],
    sink: Sink,
    options: Mapping[str, Any],
    *,
    as_json: bool,
    warnings: Sequence[str] = (),
    gates: Sequence[str] = (),
) -> None:
    """Print what a run would do, and leave with the exit code that it would have."""
    from vla_data.jobs.rehearsal import rehearse

    told = {name: options[name] for name in ("replace", "max_bad", "dedup")}
    plan = rehearse(source, steps, sink, **told)
    gates_left = tuple(f"{gate}'s loader: it opens what a run wrote" for gate in gates)
    plan = replace(plan, warnings=(*warnings, *plan.warnings), not_tried=gates_left)
    if as_json:
        print_json(plan.to_json())
    else:
        emit(str(plan))
    if plan.exit_code:
        raise click.exceptions.Exit(plan.exit_code)


def show_report(
    report: Report, *, as_json: bool, where: Path | str, extra: Mapping[str, Any] | None = None
) -> None:
    """Print a report, and leave with its exit code."""
    if as_json:
        print_json({**report.to_json(), **(extra or {})})
    else:
        emit(str(report))
        for line in report.warnings:
            say(f"warning: {line}")
        emit(f"\n  Dataset: {show(where)}")
        splits = ", ".join(f"{name} {n:,}" for name, n in report.details["splits"].items())
        if set(report.details["splits"]) != {"train"}:
            emit(f"  Episodes: {splits}")
    if report.exit_code:
        raise click.exceptions.Exit(report.exit_code)
