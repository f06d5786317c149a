"""A report of a dataset: one HTML page for people."""

from __future__ import annotations

import contextlib
import functools
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vla_data.core import Array, Json
from vla_data.core.findings import Finding
from vla_data.core.ledger import Ledger
from vla_data.errors import DataError
from vla_data.formats import open_source
from vla_data.formats.open import split
from vla_data.formats.sidecar import find_sidecar, open_ledger
from vla_data.remote.address import is_url
from vla_data.report import parts
from vla_data.report.advantages import advantages
from vla_data.report.flow import flow
from vla_data.report.inspect import survey
from vla_data.report.looked import Looked
from vla_data.report.numbers import numbers
from vla_data.report.page import Part, page, sentence
from vla_data.report.picture import picture
from vla_data.report.troubles import motion_of, troubles
from vla_data.statistics.vectors import VectorStats

MOST: Final = 200
"""Episodes that are read, unless all are asked for."""
_DROPPED: Final = 4
_WORST: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page and what a program wants of it.

    Attributes:
        html: the whole document, self-contained.
        findings: worst first.
        facts: as `vla_data.report.inspect.survey` gives them.
        drawn: makes the picture of `png`.
    """

    html: str
    findings: tuple[Finding, ...]
    facts: Mapping[str, Json]
    drawn: Callable[[], bytes] = field(repr=False, compare=False)

    def png(self) -> bytes:
        """The most of it in one picture, 1,200 pixels wide; `vla_data.report.picture` draws it."""
        return self.drawn()

    def _repr_html_(self) -> str:
        """In a notebook: a frame of its own, in which nothing may run."""
        inside = html.escape(self.html, quote=True)
        return f'<iframe sandbox title="report" srcdoc="{inside}" width="100%" height="800"></iframe>'


def make_page(
    address: str,
    *,
    against: str | None = None,
    everything: bool = False,
    most: int = MOST,
    episodes: str | None = None,
    against_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> Page:
    """Read a dataset, in any format, and show it.

    Args:
        address: a path or URL, or ``FORMAT:PATH``.
        against: another dataset, or the source of this one; its numbers are drawn beside, and where it is the
            source, pictures of what was dropped.
        everything: read every episode.
        most: otherwise, episodes that are read, spread evenly.
        episodes: only these of ``address``, by position, as ``0,3,5-9``.
        against_options: of the source at ``against``.
        **options: of the source at ``address``.

    Raises:
        UsageError: there is no dataset, or it needs an option.
        VerifyError: E601, its ledger is damaged.
    """
    looked = Looked()
    facts = survey(address, everything=everything, episodes=episodes, most=most, seen=looked.see, **options)
    ledger = _ledger(address)
    beside, dropped = None, None
    if against is not None:
        beside = Looked(pictured=0)
        more = dict(against_options or {})
        survey(against, everything=everything, most=most, seen=beside.see, **more)
        dropped = _dropped(ledger, against, more)
    measured, values = looked.measured(), looked.numbers()
    stats = _stats(values)
    motion = motion_of(facts, looked)
    found = troubles(address, facts, looked, measured, stats, motion)
    told = [
        Part(id="findings", title="Findings, worst first", body=parts.findings(found)),
        Part(id="flow", title="What came in, what came out", body=flow(facts, ledger)),
        Part(id="pictures", title="Pictures", body=parts.strips(looked, dropped)),
        Part(id="lengths", title="Lengths and success", body=parts.lengths(facts, measured)),
        Part(id="numbers", title="Actions, states and other numbers", body=numbers(looked, values, beside)),
        Part(id="gripper", title="Gripper switches", body=parts.gripper(measured)),
        Part(id="advantages", title="Values and advantages", body=advantages(_folder(address))),
        Part(id="conventions", title="Conventions", body=parts.conventions(facts, motion)),
        Part(id="look", title="Episodes that deserve a look", body=parts.look(measured, facts)),
        Part(id="provenance", title="Provenance", body=parts.provenance(facts)),
        Part(
            id="limits",
            title="What this report cannot tell",
            body=parts.limits(facts, looked, ledger=ledger is not None, against=against is not None),
        ),
    ]
    drawn = functools.partial(
        picture,
        _title(facts),
        facts,
        ledger=ledger,
        looked=looked,
        dropped=dropped,
        values=values,
        measured=measured,
        found=found,
    )
    html_of = page(_title(facts), _intro(facts, against), told)
    return Page(html=html_of, findings=tuple(found), facts=facts, drawn=drawn)


def _stats(values: Mapping[str, Array]) -> dict[str, VectorStats]:
    """Of every feature whose numbers float64 holds."""
    out = {}
    for name, table in values.items():
        with contextlib.suppress(DataError):
            out[name] = VectorStats.of(table)
    return out


def _title(facts: Mapping[str, Json]) -> str:
    path = str(facts["path"])
    name = path.rstrip("/").rpartition("/")[2] if is_url(path) else Path(path).resolve().name
    return f"Report of {name or path}"


def _intro(facts: Mapping[str, Json], against: str | None) -> str:
    some = "" if facts["episodes_read"] == facts["episodes"] else f"; {facts['episodes_read']:,} of them were read"
    beside = "" if against is None else ", beside another dataset"
    return sentence(f"Format {facts['format']}, {facts['episodes']:,} episodes{some}{beside}.")


def _folder(address: str) -> Path | None:
    where = split(address)[1]
    return None if is_url(where) or not Path(where).is_dir() else Path(where)


def _ledger(address: str) -> Ledger | None:
    folder = _folder(address)
    return None if folder is None or find_sidecar(folder) is None else open_ledger(folder)


def _dropped(ledger: Ledger | None, against: str, options: Mapping[str, Any]) -> Looked | None:
    """Pictures of a few episodes of the source that did not come out."""
    if ledger is None:
        return None
    why = {record.id: record for record in ledger.records if record.status in ("rejected", "failed")}
    source = open_source(against, **options)
    shown = Looked()
    for ref in source.episodes()[:_WORST]:
        if ref.id in why and len({strip.episode for strip in shown.strips}) < _DROPPED:
            try:
                shown.picture(source.read(ref), f"{why[ref.id].status}: {why[ref.id].reason}")
            except DataError:
                continue  # it has no pictures; the flow says why it failed
    return shown
