"""Options of the commands that convert: how a source is to be read, what of it, and what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from vla_data.cli import emit
from vla_data.cli.copying import as_video
from vla_data.cli.options import allow_images, changed, choice, lerobot_options, stack
from vla_data.cli.types import Number, Size, TrainerName
from vla_data.core import Json, Sink, Source
from vla_data.core.curate import Step
from vla_data.core.unneeded import lenient
from vla_data.errors import UsageError
from vla_data.formats import load_trainer, open_sink, open_source, parse_address, trainer
from vla_data.formats.sidecar import find_sidecar
from vla_data.remote.address import parse_url
from vla_data.safety.text import show
from vla_data.selection.exports import write_episode_list, write_keep_ranges
from vla_data.selection.mapping import table_steps
from vla_data.selection.subset import Selection, select

TARGETS: Final = ("lerobot", "rlds", "robomimic", "rdt", "rdt2")
SELECTIONS: Final = ("keep-ranges", "episode-list")
"""What else ``--to`` may be: a file that names episodes and frames, without a copy of them."""

format_options = stack(
    click.option("--episodes", help="Only these, by position, for example 0,3,5-9."),
    click.option("--task", help="The instruction of all episodes, where the source has none."),
    click.option("--robot", help="RLDS: robot type."),
    click.option("--splits", multiple=True, help="RLDS: only this split."),
    click.option(
        "--leave-out",
        multiple=True,
        metavar="PATH",
        help="A feature, or a group, not to read; in RLDS and HDF5 its path, as steps/observation/x or obs/x.",
    ),
    click.option(
        "--instruction",
        metavar="PATH",
        help="RLDS: where the instruction is, below steps or in the record; HDF5: an attribute, or below a demo.",
    ),
    click.option(
        "--layout", help="HDF5: kind of file: libero, robomimic, maniskill or aloha.  [default: detected]"
    ),
    choice(
        "--observation-time",
        ["auto", "before", "after"],
        help="HDF5: whether an observation is of before or after the action of its row.",
    ),
    choice(
        "--image-orientation", ["auto", "none", "vflip", "rot180"], help="HDF5: what makes the images upright."
    ),
    choice("--channel-order", ["auto", "rgb", "bgr"], help="HDF5: order of colours as stored."),
    choice("--language", ["auto", "attributes", "file_name"], help="HDF5: where the instruction is."),
    click.option("--mask", help="HDF5: only the demos of mask/<this>."),
    click.option("--next-obs", is_flag=True, default=None, help="HDF5: keep next_obs, as next.observation.<key>."),
)

reading_options = stack(
    click.option("--fps", type=Number(0, min_open=True), help="Steps per second, where the source does not say."),
    format_options,
    choice(
        "--info-timing",
        ["auto", "after", "before"],
        help="Rollouts: whether info[t] is of after or before action t.",
    ),
    click.option("--info", is_flag=True, default=None, help="Rollouts: keep all values of infos, as info.<key>."),
    click.option("--action-size", type=click.IntRange(1), help="Rollouts: numbers of an action.  [default: 7]"),
    click.option("--image-size", type=Size(), help="Rollouts: quarantine others."),
    allow_images("Rollouts: convert such images to RGB."),
    click.option("--allow-empty-instruction", is_flag=True, default=None, help="Keep episodes without a text."),
    click.option(
        "--action-limit",
        type=Number(0, min_open=True),
        help="Largest action value.  [default: 100 for rollouts and HDF5, else 1e6]",
    ),
)

feature_options = stack(
    click.option("--rename", multiple=True, metavar="OLD=NEW", help="Give a feature another name."),
    click.option("--keep", multiple=True, metavar="PATTERN", help="Only such features, as observation.images.*"),
    click.option("--drop", multiple=True, metavar="PATTERN", help="Not such features."),
    click.option(
        "--join",
        multiple=True,
        metavar="NEW=PART,PART,...",
        help="Numbers after one another as one vector, as action=action.arm,action.gripper.",
    ),
    click.option(
        "--declare", multiple=True, metavar="FEATURE:KEY=VALUE", help="State a fact, as action:rotation=rotvec."
    ),
    click.option("--actions", help="Actions as physical (m, rad), controller (its input), or a preset."),
    click.option(
        "--base",
        metavar="X,Y,Z,...",
        help="Pose of the robot's base in the world, for --actions of another frame: x,y,z, or with qx,qy,qz,qw.",
    ),
    click.option("--resample", type=Number(0, min_open=True), metavar="FPS", help="Another rate."),
)

rdt_options = stack(
    choice(
        "--rdt-layout",
        ["pose_delta", "velocity", "velocity_per_step", "absolute", "agilex"],
        help="RDT: where the numbers of an action go.  [default: pose_delta]",
    ),
    click.option("--action-convention", metavar="PRESET", help="RDT: what actions mean.  [default: as declared]"),
    click.option("--state-convention", metavar="PRESET", help="RDT: what states mean.  [default: as declared]"),
    click.option(
        "--gripper-opening",
        type=Number(0, 1, min_open=True),
        metavar="METRES",
        help="RDT: between the fingers of the open gripper.  [default: the robot's, where it is known]",
    ),
    click.option("--cam-high", metavar="CAMERA", help="RDT: the camera that looks at the robot."),
    click.option("--cam-right-wrist", metavar="CAMERA", help="RDT: the camera on the only, or right, wrist."),
    click.option("--cam-left-wrist", metavar="CAMERA", help="RDT: the camera on the left wrist."),
    click.option("--shortest", type=click.IntRange(1), help="RDT: fewest steps of an episode.  [default: 32]"),
)

writing_options = stack(
    click.option(
        "--float32", is_flag=True, help="RLDS: round float64 to float32, for trainers that know no other type."
    ),
    click.option(
        "--write-next-obs",
        is_flag=True,
        help="robomimic: write next_obs, which ends with what was seen after the last action.",
    ),
    click.option(
        "--val",
        type=Number(0, 1, max_open=True),
        help="RLDS: share for split val, of episodes without a declared split.  [default: 0]",
    ),
    rdt_options,
)

_RDT: Final[tuple[str, ...]] = (
    *("rdt_layout", "action_convention", "state_convention", "gripper_opening"),
    *("cam_high", "cam_right_wrist", "cam_left_wrist", "shortest"),
)

_RDT2: Final = ("gripper_opening", "cam_right_wrist", "cam_left_wrist")

gate_option = click.option(
    "--gate",
    "gates",
    type=TrainerName("gate"),
    multiple=True,
    help="Then open a batch as this trainer's loader does.",
)

FORMAT_OPTIONS: Final = (
    "task",
    "robot",
    "splits",
    "leave_out",
    "instruction",
    "layout",
    "observation_time",
    "image_orientation",
    "channel_order",
    "language",
    "mask",
    "next_obs",
)
"""Options of a source that `format_options` has, besides ``episodes``."""

READING: Final = (
    "fps",
    *FORMAT_OPTIONS,
    "info_timing",
    "info",
    "action_size",
    "image_size",
    "allow_images",
    "allow_empty_instruction",
    "action_limit",
)
"""Options of a source that `reading_options` has, besides ``episodes``."""


def source_of(address: str, options: dict[str, Any], *, unneeded: Collection[str] = ()) -> Source:
    """The source at ``address``, with what `reading_options` says, which is taken out of ``options``.

    Args:
        address: where it is.
        options: of the command.
        unneeded: of `vla_data.core.unneeded.FACTS`, what the command's result does not depend on.
    """
    given = given_options(options)
    return select(lenient(open_source(address, **given), unneeded), options.pop("episodes"))


def given_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options of a source that the user gave, taken out of ``options``."""
    given = {name: options.pop(name) for name in READING}
    given = {name: value for name, value in given.items() if value not in (None, ())}
    if "allow_images" in given:
        given["allow_images"] = frozenset(given["allow_images"])
    return given


def steps_of(source: Source, options: dict[str, Any]) -> tuple[Step, ...]:
    """The steps that `feature_options` asks for; those options are taken out of ``options``."""
    names = [name.partition("=") for name in options.pop("rename")]
    for old, equals, new in names:
        if not (old and equals and new):
            raise UsageError("E001", f"--rename {show(old + equals + new)} is not of the form OLD=NEW")
    if len({old for old, _, _ in names}) != len(names):
        raise UsageError("E001", "--rename has a name twice")
    table = {
        "join": joined(options.pop("join")),
        "rename": {old: new for old, _, new in names},
        "declare": declared(options.pop("declare")),
        "actions": options.pop("actions"),
        "base": pose_of(options.pop("base")),
        "keep": options.pop("keep"),
        "drop": options.pop("drop"),
        "fps": options.pop("resample"),
    }
    return table_steps(table, source, ())


def joined(texts: Iterable[str]) -> dict[str, list[str]]:
    """``NEW=PART,PART,...`` as {new: [part, part, ...]}."""
    out: dict[str, list[str]] = {}
    for text in texts:
        new, _, parts = text.partition("=")
        named = [part.strip() for part in parts.split(",")]
        if not new or len(named) < 2 or not all(named) or new in out:
            raise UsageError("E001", f"--join {show(text)} is not of the form NEW=PART,PART,..., each NEW once")
        out[new] = named
    return out


def pose_of(text: str | None) -> list[float] | None:
    """The numbers of ``--base``."""
    try:
        return None if text is None else [float(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(
            "E001", f"--base {show(text or '')} is not of the form X,Y,Z or X,Y,Z,QX,QY,QZ,QW"
        ) from None


def declared(texts: Iterable[str]) -> dict[str, dict[str, Json]]:
    """``FEATURE:KEY=VALUE`` as {feature: {key: value}}; a value that is JSON is that, else a text."""
    out: dict[str, dict[str, Json]] = {}
    for text in texts:
        feature, colon, fact = text.partition(":")
        key, equals, value = fact.partition("=")
        if not (feature and colon and key and equals and value):
            raise UsageError("E001", f"--declare {show(text)} is not of the form FEATURE:KEY=VALUE")
        try:
            told: Json = json.loads(value)
        except ValueError:
            told = value
        facts = out.setdefault(feature, {})
        if facts.setdefault(key, told) != told:
            raise UsageError("E001", f"--declare says {show(feature)}:{show(key)} twice, and not alike")
    return out


def sink_of(
    target: Path | str, to: str, options: dict[str, Any], source: Source, steps: Sequence[Step] = ()
) -> Sink:
    """The sink of ``--to``, with the options of `image_options` that concern it, taken out of ``options``; it
    copies videos of ``source`` that ``steps`` leave as they are.
    """
    given = changed(click.get_current_context(), {"images": None})
    images = lerobot_options(options)
    float32 = bool(options.pop("float32", False))
    val = options.pop("val", None)
    next_obs = bool(options.pop("write_next_obs", False))
    rdt = rdt_given(options, to)
    if val is not None and to != "rlds":
        raise UsageError("E001", f"--val works with --to rlds only; for {to}, use `vla-data split`")
    if next_obs and to != "robomimic":
        raise UsageError(
            "E001", f"--write-next-obs works with --to robomimic only; {to} has no place for next_obs"
        )
    if float32 and to != "rlds":
        raise UsageError("E001", f"--float32 works with --to rlds only; {to} keeps every type")
    if to == "lerobot":
        return open_sink(target, format=to, **as_video(images, source, steps))
    if "version" in images:
        raise UsageError("E001", f"--version is for --to lerobot, not {to}")
    if "video" in images:
        raise UsageError("E001", f"--video works with --to lerobot only; {to} holds images")
    if to in ("rdt", "rdt2"):
        if to == "rdt2":
            images.pop("images", None)  # always JPEG
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", _last_name(target)).strip("_.-") or "dataset"
        return open_sink(target, format=to, name=name, **images, **rdt)
    if to == "rlds":
        name = re.sub(r"\W+", "_", _last_name(target).lower()).strip("_") or "dataset"
        split = {} if val is None else {"val_fraction": val}
        return open_sink(target, format=to, name=name, step_fields="rlds", float32=float32, **split, **images)
    if to == "robomimic":
        return open_sink(target, format=to, next_obs=next_obs)
    return open_sink(target, format=to, **given)


def rdt_given(options: dict[str, Any], to: str) -> dict[str, Any]:
    """What the user gave of `rdt_options`, taken out of ``options``, for a sink of this name.

    Raises:
        UsageError: E001 for one that it does not have.
    """
    rdt = {name: options.pop(name) for name in _RDT if name in options}
    rdt = {name: value for name, value in rdt.items() if value is not None}
    known = {"rdt": _RDT, "rdt2": _RDT2}.get(to, ())
    if wrong := [name for name in rdt if name not in known]:
        where = "rdt and rdt2" if wrong[0] in _RDT2 else "rdt"
        raise UsageError("E001", f"--{wrong[0].replace('_', '-')} works with --to {where} only")
    return {name.removeprefix("rdt_"): value for name, value in rdt.items()}


def _last_name(target: Path | str) -> str:
    return parse_url(target)[1].rpartition("/")[2] if isinstance(target, str) else target.resolve().name


def write_selection(
    reader: Source, address: str, target: Path, to: str, *, replace: bool, dry_run: bool
) -> dict[str, Json]:
    """Write which episodes and frames there are, for a trainer that reads the data where they lie.

    Args:
        reader: the source.
        address: where it lies; of a dataset of ours, the frames that were kept of its own source are meant.
        target: the file.
        to: one of `SELECTIONS`.
        replace: write over an existing file.
        dry_run: do all but write.
    """
    if to == "episode-list":
        ids = [ref.id for ref in reader.episodes()]
        return write_episode_list(ids, target, replace=replace, dry_run=dry_run)
    path = parse_address(address)[1]
    ours = not isinstance(reader, Selection) and path.is_dir() and find_sidecar(path) is not None
    return write_keep_ranges(path if ours else reader, target, replace=replace, dry_run=dry_run)


def check_gates(names: tuple[str, ...], to: str) -> None:
    """Refuse gates that can't open what will be written, before any work is done.

    Raises:
        UsageError: E001 for another format, E006 for a reader that is not installed.
    """
    for name in names:
        reads = trainer(name, "gate").reads
        if reads != to:
            raise UsageError("E001", f"--gate {name} reads {reads}, not {to}")
        load_trainer(name, "gate")


def pass_gates(folder: Path, names: tuple[str, ...]) -> dict[str, Json]:
    """Open a dataset as each of these readers does; what each one sees."""
    return {name: load_trainer(name, "gate").read_back(folder) for name in names}


def show_gates(seen: dict[str, Json]) -> None:
    """Print what readers saw."""
    for facts in seen.values():
        emit("\n".join(("", *facts["lines"])))
