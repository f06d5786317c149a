"""``vla-data verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vla_data.cli import emit, print_json, say
from vla_data.cli.help import Grouped
from vla_data.cli.options import result_options
from vla_data.cli.types import Number, Target, TrainerName
from vla_data.errors import CODES, UsageError, VerifyError
from vla_data.formats import TRAINERS, load_trainer, open_source, parse_address
from vla_data.formats.sidecar import find_sidecar
from vla_data.verification.check import verify
from vla_data.verification.report import Verdict


class Share(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A share, as ``5%`` or ``0.05``."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        text = str(value)
        number = Number().convert(text.removesuffix("%"), param, ctx) / (100 if text.endswith("%") else 1)
        if not 0 < number <= 1:
            self.fail(f"{text!r} is not a share above 0 and up to 100%", param, ctx)
        return number


@click.command("verify", cls=Grouped)
@click.argument("dst", type=Target())
@click.option("--sample", type=Share(), help="Hash only such a share of the files, for example 5%.")
@click.option("--seed", type=click.IntRange(0), help="Which files are sampled.  [default: others each time]")
@click.option("--deep", is_flag=True, help="Also read everything and compute again what can be.")
@click.option("--gate", type=TrainerName("gate"), help="Also open the dataset as this trainer's loader does.")
@click.option("--reader", type=TrainerName("gate"), hidden=True, help="Former name of --gate.")
@click.option(
    "--trainer",
    type=TrainerName("judge"),
    help="Also look for known mistakes in data for this trainer, whoever made it.",
)
@click.option("--check", type=TrainerName("judge"), hidden=True, help="Former name of --trainer.")
@click.option("--against", multiple=True, metavar="SRC", help="Also compare all with what DST was made from.")
@result_options
def command(
    dst: Path | str,
    sample: float | None,
    seed: int | None,
    deep: bool,
    gate: str | None,
    reader: str | None,
    trainer: str | None,
    check: str | None,
    against: tuple[str, ...],
    debug: bool,
    as_json: bool,
) -> None:
    """Check that the dataset DST is what was published; every damaged file is named.

    By default all files must be there with their SHA-256, and no others where readers look for data.
    """
    here = parse_address(dst)[1]
    trainer, gate = trainer or check, gate or reader
    sidecar = find_sidecar(here) if against and trainer is None and here.is_dir() else None
    row = None if sidecar is None else TRAINERS.get(sidecar.name)
    if sidecar is not None and row is not None and row.judge is not None:
        trainer = sidecar.name  # it was made for one trainer, in whose terms its source is compared
    if trainer is not None:
        _judge(here, trainer, against, as_json=as_json)
        return
    show_verdict(verify(here, sample=sample, seed=seed, deep=deep, reader=gate, against=against), as_json=as_json)


def _judge(dst: Path, trainer: str, against: tuple[str, ...], *, as_json: bool) -> None:
    """Look for a trainer's known mistakes; a dataset of ours is verified as a whole first."""
    ours = dst.is_dir() and find_sidecar(dst) is not None
    verdict = verify(dst, deep=True) if ours else None
    if len(against) > 1:
        raise UsageError("E001", f"--trainer {trainer} works with one --against only")
    found = load_trainer(trainer, "judge").judge(dst, source=open_source(against[0]) if against else None)
    if as_json:
        facts = {"path": str(dst), **found.to_json()}
        print_json(facts | ({"verify": verdict.to_json()} if verdict is not None else {}))
    else:
        emit(str(found))
    for name, bug in found.bugs:
        say(f"{name}: {bug.code}: {bug.message}" if name else f"{bug.code}: {bug.message}")
    if verdict is not None and not as_json:
        show_verdict(verdict, as_json=False)
    if found.bugs or (verdict is not None and not verdict.ok):
        raise click.exceptions.Exit(VerifyError.exit_code)


def show_verdict(verdict: Verdict, *, as_json: bool) -> None:
    """Print a verdict: damages on standard error, a line each; leave with exit code 6 if there are any."""
    if as_json:
        print_json(verdict.to_json())
    else:
        emit(str(verdict))
    for line in verdict.notes:
        say(f"note: {line}")
    for damage in verdict.damages:
        say(f"E601 {CODES['E601']}: {damage.line()}")
    if not verdict.ok:
        raise click.exceptions.Exit(VerifyError.exit_code)
