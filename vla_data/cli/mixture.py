"""``vla-data mixture``."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from vla_data.cli import emit, print_json, say
from vla_data.cli.help import Grouped
from vla_data.cli.options import result_options
from vla_data.cli.types import Local
from vla_data.core import Json
from vla_data.mixtures import Mixture, open_mixture
from vla_data.safety.text import show


@click.command("mixture", cls=Grouped)
@click.argument("config", type=Local())
@click.option("--draws", type=click.IntRange(1), metavar="N", help="Draw N frames, and show how often each came.")
@result_options
def command(config: Path, draws: int | None, debug: bool, as_json: bool) -> None:
    """Show what the mixture in CONFIG (TOML, JSON, or a RECAP training configuration) really samples.

    Every episode is read once. Findings, such as a wrong label of steps per second, are warnings.
    """
    mixture = open_mixture(config)
    effective = mixture.effective
    drawn = None if draws is None else _draw(mixture, draws)
    if as_json:
        print_json({**effective.to_json(), **({} if drawn is None else {"draws": drawn})})
    else:
        emit(str(effective))
        if drawn is not None:
            emit("")
            for name, count, expected in zip(drawn["names"], drawn["counts"], drawn["expected"], strict=True):
                emit(f"{show(name)}: drawn {count:,} times of {draws:,}, {expected:,.1f} expected")
            emit(f"Chi-square {drawn['chi_square']:.3g} with {drawn['degrees']} degrees of freedom")
    for finding in effective.findings:
        say(f"warning: {show(finding.message)}")
    if any(dataset.left_out for dataset in effective.datasets):
        raise click.exceptions.Exit(3)


def _draw(mixture: Mixture, draws: int) -> dict[str, Json]:
    """How often each dataset comes in the first ``draws`` positions of the stream, through as many epochs."""
    sampling = mixture.sampling
    counts = np.zeros(len(mixture.members), dtype=np.int64)
    for epoch in range(-(-draws // len(sampling))):
        positions = np.arange(min(len(sampling), draws - epoch * len(sampling)), dtype=np.int64)
        counts += np.bincount(sampling.at(epoch, positions)[0], minlength=len(counts))
    expected = np.asarray(sampling.shares) * draws
    there = expected > 0
    chi_square = float(((counts - expected)[there] ** 2 / expected[there]).sum())
    return {
        "names": [member.name for member in mixture.members],
        "counts": counts.tolist(),
        "expected": expected.tolist(),
        "chi_square": chi_square,
        "degrees": int(there.sum()) - 1,
    }
