"""One dataset, ready for one trainer.

    OUT/<where the trainer looks>     the dataset, in the trainer's format and version
    OUT/...                           its statistics and its configuration, each where the trainer finds it
    OUT/COMMAND.md                    what to type, what was checked, what to know

A module of the trainer says what these are (`Preparation`); this one makes the dataset, opens it as the trainer's
loader does and makes the rest of it before it is published, so that what a trainer lacks publishes nothing. The
small files follow the dataset, so that a run that was cut between them is repeated with ``replace``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from vla_data.core import Json, Schema, Source
from vla_data.core.curate import Step
from vla_data.errors import TargetExistsError, UsageError
from vla_data.files.write import machine_errors, make_folder, write_file
from vla_data.formats import open_sink, open_source
from vla_data.formats.tables import FORMATS, TRAINERS, load_trainer
from vla_data.jobs.manifest import SCHEMA
from vla_data.jobs.report import Report
from vla_data.jobs.run import run
from vla_data.safety.text import show

COMMAND: Final = "COMMAND.md"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A dataset that is made for a trainer, and will be published.

    Attributes:
        name: of the dataset.
        out: the folder of everything, absolute.
        folder: where the dataset will be.
        made: where its files are.
        source: opens it; of a format that is only written, what it was made from.
        schema: of its episodes.
        options: what the user asked of the trainer's own: ``action_horizon``, ``tag``.
        gate: what the trainer's loader saw; empty where it was not tried.
    """

    name: str
    out: Path = field(repr=False)
    folder: Path = field(repr=False)
    made: Path = field(repr=False)
    source: Source
    schema: Schema
    options: Mapping[str, Any]
    gate: Mapping[str, Json]

    def feature(self, name: str) -> Any:
        """A feature that the trainer needs.

        Raises:
            UsageError: E206, the dataset has none of this name.
        """
        if name not in self.schema.features:
            has = ", ".join(sorted(self.schema.features))
            raise UsageError("E206", f"the dataset has no {name}, but {show(has)[:300]}; --rename X={name}")
        return self.schema.features[name]

    def word(self, below: str = "") -> str:
        """The folder of everything, or what is below it, as a shell takes it."""
        return shlex.quote(str(self.out / below))

    @property
    def cameras(self) -> list[str]:
        """Its cameras."""
        return [name for name, feature in sorted(self.schema.features.items()) if feature.dtype == "image"]


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a trainer needs beside the dataset.

    Attributes:
        files: path below the folder of everything -> content.
        command: the lines to type in a shell.
        facts: what to know, a sentence each.
    """

    files: Mapping[str, str]
    command: Sequence[str]
    facts: Sequence[str] = ()


class Preparation(Protocol):
    """A module that knows what a trainer needs."""

    FORMAT: str
    """The format that it reads."""

    NEEDS_GATE: bool
    """Whether what is written follows from what its loader sees, so that there is nothing without it."""

    def sink_options(self, name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options of the format's sink; ``given`` are those of images and video that the user gave."""
        ...

    def place(self, name: str) -> str:
        """Where the dataset is, below the folder of everything."""
        ...

    def extras(self, prepared: Prepared) -> Extras:
        """The files and the command."""
        ...


@dataclass(frozen=True, kw_only=True)
class Preparedness:
    """What was published.

    Attributes:
        report: of the run that made the dataset.
        folder: the dataset.
        files: what else was written, relative to the folder of everything.
        command: the lines to type.
        facts: what to know.
        gate: what the trainer's loader saw; empty where there is none here.
    """

    report: Report
    folder: Path
    files: tuple[str, ...]
    command: tuple[str, ...]
    facts: tuple[str, ...]
    gate: Mapping[str, Json]


def prepare(
    source: Source,
    steps: Sequence[Step],
    *,
    trainer: str,
    out: str | Path,
    name: str,
    images: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    replace: bool = False,
    **settings: Any,
) -> Preparedness:
    """Make everything that a trainer needs beside its code.

    Args:
        source: where episodes come from.
        steps: what they go through.
        trainer: a trainer of `vla_data.formats.TRAINERS` that can be prepared for.
        out: the folder of everything.
        name: of the dataset: small letters, digits and _.
        images: options of images and video for the sink.
        options: of the trainer: ``action_horizon``, and ``tag`` of an annotation.
        replace: write over what is there.
        settings: of `vla_data.run`.

    Raises:
        UsageError: E001 for a name that is none, E206 for a feature that the trainer needs.
        TargetExistsError: E411, something is there already.
        VerifyError: E601, the trainer's loader could not open it.

    Nothing is published then.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            "E001", f"{show(name)!r} is no name of a dataset: small letters, digits and _; say --name"
        )
    module: Any = load_trainer(trainer, "prepare")
    out = Path(out).resolve()
    folder = out / module.place(name)
    if (out / COMMAND).exists() and not replace:
        raise TargetExistsError("E411", f"{show(out / COMMAND)} exists; --replace replaces it")
    sink = open_sink(folder, format=module.FORMAT, **module.sink_options(name, dict(images or {})))
    gate, notes = _gate(trainer, needed=module.NEEDS_GATE)
    seen: dict[str, Json] = {}
    written: list[tuple[Prepared, Extras]] = []

    def check(staging: Path) -> None:
        if gate is not None:
            seen.update(gate.read_back(staging))
        opened, schema = _opened(module.FORMAT, staging, source)
        made = Prepared(
            name=name,
            out=out,
            folder=folder,
            made=staging,
            source=opened,
            schema=schema,
            options=dict(options or {}),
            gate=seen,
        )
        written.append((made, module.extras(made)))
        there = [path for path in written[0][1].files if (out / path).exists()]
        if there and not replace:
            raise TargetExistsError("E411", f"{show(out / there[0])} exists; --replace replaces it")

    with machine_errors("cannot write"):
        make_folder(folder.parent)
    report = run(source, steps, sink, replace=replace, before_publishing=check, **settings)
    made, extras = written[0]
    facts = (*extras.facts, *(str(line) for line in seen.get("warnings", ())), *notes)
    with machine_errors("cannot write"):
        for path, text in extras.files.items():
            _write(out, path, text, replace=replace)
        _write(out, COMMAND, _told(trainer, made, extras, facts, seen), replace=replace)
    return Preparedness(
        report=report,
        folder=folder,
        files=(*sorted(extras.files), COMMAND),
        command=tuple(extras.command),
        facts=facts,
        gate=seen,
    )


def _opened(format: str, folder: Path, source: Source) -> tuple[Source, Schema]:
    """What opens the dataset, and its schema. Of a format that is only written, the source it was made from."""
    row = FORMATS[format]
    if row.source is None:
        return source, Schema.read(folder / str(row.sidecar) / SCHEMA, root=folder)
    opened = open_source(folder)
    return opened, opened.schema(opened.read(opened.episodes()[0]))


def _write(out: Path, path: str, text: str, *, replace: bool) -> None:
    """Write a small file below the folder of everything, where no link is followed."""
    make_folder((out / path).parent, root=out)
    try:
        write_file(out / path, text.encode(), root=out, new=not replace)
    except FileExistsError:
        raise TargetExistsError(
            "E411", f"{show(out / path)} exists; the dataset is there, and --replace makes all of it again"
        ) from None


def _gate(trainer: str, *, needed: bool) -> tuple[Any, list[str]]:
    """The module that opens a dataset as the trainer's loader does, or None and why there is none."""
    if TRAINERS[trainer].gate is None:
        return None, ["its loader was not tried: this library has none for it"]
    try:
        return load_trainer(trainer, "gate"), []
    except UsageError as error:
        if needed or error.code != "E006":
            raise
        return None, [f"its loader was not tried: {error.message}"]


def _told(trainer: str, made: Prepared, extras: Extras, facts: Sequence[str], seen: Mapping[str, Json]) -> str:
    lines = [
        f"# {made.name} for {trainer}",
        "",
        "```sh",
        *extras.command,
        "```",
        "",
        *(f"- `{path}`" for path in sorted(extras.files)),
        "",
        *(f"- {line}" for line in facts),
        "",
        "```text",
        *(str(line) for line in seen.get("lines", ())),
        "```",
        "",
    ]
    return "\n".join(lines)
