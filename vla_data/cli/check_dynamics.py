"""``vla-data check-dynamics``."""

from __future__ import annotations

from typing import Any, Final

import click

from vla_data.actions import Convention, preset
from vla_data.actions.base import base_pose
from vla_data.cli import emit, print_json
from vla_data.cli.conversion import declared, joined, pose_of, reading_options, source_of
from vla_data.cli.help import Grouped
from vla_data.cli.options import result_options
from vla_data.cli.types import Number
from vla_data.core.curate import describe
from vla_data.core.unneeded import NUMBERS
from vla_data.dynamics import check_dynamics
from vla_data.errors import DataError, UsageError, VerifyError, VlaDataError
from vla_data.safety.text import show
from vla_data.selection.mapping import unreadable
from vla_data.steps.features import Declare
from vla_data.steps.join import Join

_VERDICTS: Final = {
    (True, False): "The convention is contradicted.",
    (False, True): "Nothing contradicts the declared convention.",
    (False, False): "Nothing was tested.",
}
"""(contradicted, ok) -> a sentence."""


@click.command("check-dynamics", cls=Grouped)
@click.argument("source")
@click.option("--action", default="action", show_default=True, help="Feature with the commands.")
@click.option("--state", default="observation.state", show_default=True, help="Feature with the measured poses.")
@click.option(
    "--join",
    multiple=True,
    metavar="NEW=PART,PART,...",
    help="Numbers after one another as one vector, as observation.state=observation.pos,observation.quat.",
)
@click.option("--convention", help="A preset that the actions shall be of.  [default: the declared one]")
@click.option("--declared-fps", type=Number(0, min_open=True), help="Judge by this rate instead of the source's.")
@click.option(
    "--declare", multiple=True, metavar="FEATURE:KEY=VALUE", help="State a fact, as observation.state:frame=world."
)
@click.option(
    "--base", metavar="X,Y,Z,...", help="Pose of the robot's base in the world: x,y,z, or with qx,qy,qz,qw."
)
@reading_options
@result_options
def command(
    source: str,
    action: str,
    state: str,
    join: tuple[str, ...],
    convention: str | None,
    declared_fps: float | None,
    declare: tuple[str, ...],
    base: str | None,
    debug: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Compare the actions of SOURCE with the motion that its states show.

    Finds a wrong scale, a wrong sign, actions that are off by a step, a wrong rotation dialect, an inverted
    gripper. Leaves with exit code 6 when something contradicts the convention.
    """
    unneeded = NUMBERS if declared_fps is not None else [fact for fact in NUMBERS if fact != "fps"]
    reader = source_of(source, options, unneeded=unneeded)
    joins = [Join(name=name, parts=tuple(parts)) for name, parts in joined(join).items()]
    actions, states, left_out, schema = [], [], 0, None
    refused: VlaDataError | None = None
    for ref in reader.episodes():
        try:
            episode = reader.read(ref)
        except DataError as error:
            left_out += 1
            refused = refused or unreadable(ref.id, error)
            continue
        schema = schema or describe(reader.schema(episode), joins)
        for step in joins:
            episode = step.apply(episode)
        for name, option in ((action, "--action"), (state, "--state")):
            if name not in episode.arrays:
                known = ", ".join(sorted(map(show, episode.arrays)))
                raise UsageError(
                    "E206",
                    f"there is no feature {show(name)}; {option} names another, --join makes one of parts; known "
                    f"are {known}",
                )
        actions.append(episode.arrays[action])
        states.append(episode.arrays[state])
    if schema is None:
        raise refused or UsageError("E003", "the source has no episode")
    told = tuple((name, tuple(facts.items())) for name, facts in declared(declare).items())
    schema = Declare(conventions=told).describe(schema)
    meant = preset(convention) if convention else Convention.from_json(schema.features[action].convention)
    measured = Convention.from_json(schema.features[state].convention)
    pose = pose_of(base)
    report = check_dynamics(
        actions,
        states,
        meant,
        declared_fps or schema.fps,
        state_convention=measured,
        base=None if pose is None else base_pose(pose),
    )
    if as_json:
        print_json({**report.to_json(), "episodes": len(actions), "left_out": left_out})
    else:
        emit(f"{len(actions):,} episodes{f', {left_out:,} could not be read' if left_out else ''}")
        emit(str(report))
        emit(_VERDICTS[report.contradicted, report.ok])
    if report.contradicted:
        raise click.exceptions.Exit(VerifyError.exit_code)
