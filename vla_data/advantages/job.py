"""Annotating a dataset: values in, advantages, labels and files out; and reading what others left there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np

from vla_data._version import __version__
from vla_data.advantages.annotation import (
    FOLDER,
    Annotation,
    check_tag,
    read_annotation,
    sidecar,
    write_annotation,
    write_sums,
)
from vla_data.advantages.format import Exchanged
from vla_data.advantages.frame_table import SIDE, FrameTable, as_flags
from vla_data.advantages.join import Coverage
from vla_data.advantages.labels import Labels, label_frames
from vla_data.advantages.numbers.recap import Recap, Unlabelled
from vla_data.advantages.numbers.thresholds import percentile_lines, percentiles
from vla_data.advantages.outcomes import Outcomes
from vla_data.advantages.scale import check_scale, resolution
from vla_data.advantages.values import FunctionValues, Progress, Values, read_values
from vla_data.core import Json
from vla_data.errors import DataError, LockedError, TargetExistsError, UsageError
from vla_data.files.sums import SEAL, parse_sums
from vla_data.files.write import machine_errors, remove_tree, write_file
from vla_data.formats.tables import FORMER, TRAINERS, load_trainer
from vla_data.jobs.workspace import check_target
from vla_data.safety.files import folder_below, read_file
from vla_data.safety.text import show

SIDECAR: Final = "sidecar"
"""What `read` calls our own files."""
NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What file systems say that have no locks; there nobody else is kept out."""


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """The outcome of `annotate`.

    Attributes:
        annotation: what was computed.
        files: written files, relative to the dataset.
        percentiles: percentile -> advantage.
        layout: facts of the interchange layout: what to type into that trainer's configuration, what it loses.
        copy: the annotated copy, where the layout makes one.
        warnings: what may not be meant so, a sentence each.
    """

    annotation: Annotation
    files: tuple[str, ...]
    percentiles: Mapping[int, float]
    layout: Mapping[str, Json]
    copy: Path | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        positive, forced = self.annotation.positive, self.annotation.forced
        return {
            "tag": self.annotation.tag,
            "frames": len(self.annotation.advantages),
            "positive": None if positive is None else int(positive.sum()),
            "positive_share": None if positive is None else float(positive.mean()),
            "forced": None if forced is None else int(forced.sum()),
            "percentiles": {str(p): value for p, value in self.percentiles.items()},
            "files": list(self.files),
            "layout": dict(self.layout),
            "copy": None if self.copy is None else str(self.copy),
            "warnings": list(self.warnings),
            **self.annotation.provenance,
        }

    def __str__(self) -> str:
        facts = self.to_json()
        lines = percentile_lines(self.percentiles)
        for task, bound in (facts["thresholds"] or {"bounds": {}})["bounds"].items():
            which = "all frames" if task == "all" else f"task {task}"
            op = facts["thresholds"]["op"]
            ties = f", {bound['ties']:,} of them equal to it" if bound["ties"] else ""
            found = f"{bound['positive']:,} of {bound['frames']:,} frames{ties}"
            lines.append(f"  {which}: positive is {op} {bound['epsilon']:.6f}: {found}")
        if facts["forced"] is not None:
            lines.append(f"  Forced positive: {facts['forced']:,} frames")
        if facts["positive"] is not None:
            lines.append(f"  Positive in all: {facts['positive']:,} frames, {100 * facts['positive_share']:.2f} %")
        lines += [f"  {name}: {value}" for name, value in self.layout.items()]
        return "\n".join(lines)


def annotate(
    root: str | Path,
    *,
    tag: str,
    values: str | Path | FunctionValues,
    value_model: str | Path | None = None,
    rules: Recap | None = None,
    labels: Labels | None = None,
    success: str = "auto",
    unlabelled: Unlabelled = "error",
    force_positive: str | None = None,
    layout: str | None = None,
    copy_to: str | Path | None = None,
    critic: Mapping[str, Json] | None = None,
    replace: bool = False,
    on_progress: Progress | None = None,
    dry_run: bool = False,
) -> Annotated:
    """Compute RECAP advantages for every frame of a LeRobot dataset and write them.

    Files are written whole or not at all; the dataset's own files are never changed.

    Args:
        root: the dataset.
        tag: a name for this annotation.
        values: a Parquet file with ``episode_index``, ``frame_index``, ``value``, or a function to compute them.
        value_model: file or folder of the model that a values file came from, for its SHA-256.
        rules: reward and horizon.
        labels: thresholds; by default there are none.
        success: where success labels are; see `FrameTable.success`.
        unlabelled: what an episode without one counts as.
        force_positive: a column of flags, frames that are positive in any case (human corrections).
        layout: also write it as another project stores it, a trainer of `vla_data.formats.TRAINERS` that has
            advantages.
        copy_to: where a layout that makes a copy puts it; by default ``<root>-<tag>`` beside it.
        critic: what is known of the critic, such as how well it tells episodes apart that it has not seen; kept in
            the provenance.
        replace: overwrite an annotation with this tag, and interchange files that are there.
        on_progress: called with (frames done, frames in all) while a function computes values.
        dry_run: write nothing; values must be in a file then.

    Raises:
        UsageError: E001 for options that can't be; E301, E302 for values that do not fit; E003.
        DataError: the dataset's rows are not whole episodes, or one can't be read.
        TargetExistsError: E411, an annotation or file is there already.
        LockedError: E801, another run annotates it.
    """
    root = Path(root)
    rules, labels = rules or Recap(), labels or Labels()
    name = sidecar(tag)
    module = _layout(layout)
    row = None if layout is None else TRAINERS[FORMER.get(layout, layout)]
    if row is not None and row.needs_labels and not labels.wanted:
        raise UsageError("E001", f"{layout} stores which frames are positive: give --positive-share or --epsilon")
    table = FrameTable.read(root, (force_positive,) if force_positive else ())
    # Whatever can be refused is, before values are computed, which may take hours.
    outcomes = Outcomes.of(table, rules, success, unlabelled)
    target = Path(copy_to) if copy_to else root.resolve().parent / f"{root.resolve().name}-{tag}"
    if dry_run:
        _refuse_existing(root, [name, *(module.files(tag) if module is not None else ())], replace=replace)
        if isinstance(values, FunctionValues):
            raise UsageError("E001", "a dry run does not call --value-fn; everything else fits")
        found = read_values(Path(values), table, model=None if value_model is None else Path(value_model))
        made, told = _compute(table, tag, found, rules, labels, outcomes, force_positive, critic)
        names = (name, *(module.files(tag) if module is not None else ()))
        return Annotated(
            annotation=made, files=names, percentiles=percentiles(made.advantages), layout={}, warnings=told
        )
    with _locked(root):
        _refuse_existing(root, [name, *(module.files(tag) if module is not None else ())], replace=replace)
        if row is not None and row.copies:
            check_target(target, (root,), replace=False)
        work = root / FOLDER / f".{tag}.work"
        if isinstance(values, FunctionValues):
            found = values.compute(table, work, on_progress)
        else:
            found = read_values(Path(values), table, model=None if value_model is None else Path(value_model))
        made, told = _compute(table, tag, found, rules, labels, outcomes, force_positive, critic)
        with machine_errors("cannot write the annotation"):
            files, facts = _write(table, made, layout, target)
            remove_tree(work)
    return Annotated(
        annotation=made,
        files=tuple(files),
        percentiles=percentiles(made.advantages),
        layout=facts,
        copy=target if row is not None and row.copies else None,
        warnings=told,
    )


def read(root: str | Path, layout: str, *, tag: str | None = None) -> Exchanged:
    """What a layout's files say of a dataset, with how they cover its frames; nothing is refused for gaps.

    Args:
        root: the dataset.
        layout: a trainer of `vla_data.formats.TRAINERS` that has advantages, or ``sidecar`` for our own.
        tag: where the layout has tags in its names.

    Raises:
        UsageError: E003 when there is no such file, E302 when it is something else, E301 for a sidecar that was
            made for other data.
    """
    table = FrameTable.read(Path(root))
    if layout != SIDECAR:
        module = _layout(layout)
        if module is None:
            raise UsageError("E001", "no layout is given; name one with --layout")
        found: Exchanged = module.read(table, tag)
        return found
    if tag is None:
        raise UsageError("E001", "the annotation's file is named by a tag: give --tag")
    made = read_annotation(table, tag)
    frames = len(table)
    return Exchanged(
        layout=SIDECAR,
        files=(sidecar(tag),),
        coverage=Coverage(frames=frames, rows=frames, matched=frames, missing=0, repeated=0, unknown=0),
        advantages=made.advantages,
        values=made.values,
        positive=made.positive,
        facts=made.provenance,
    )


def _compute(
    table: FrameTable,
    tag: str,
    values: Values,
    rules: Recap,
    labels: Labels,
    outcomes: Outcomes,
    force_positive: str | None,
    critic: Mapping[str, Json] | None,
) -> tuple[Annotation, tuple[str, ...]]:
    solved, scales = outcomes.success, outcomes.scales
    returns = rules.returns(table.episodes, solved)
    normalizers = np.asarray(table.episodes.per_frame(scales))
    warnings = check_scale(values.of_frames, returns / normalizers, table.episodes, float(scales.max(initial=1)))
    advantages = rules.advantages(values.of_frames, table.episodes, solved, scales)
    forced = as_flags(table.columns[force_positive], force_positive) if force_positive else None
    look_ahead = rules.look_ahead(table.episodes)
    fine = resolution(values.of_frames, values.dtype, returns / normalizers)
    if rules.n is not None:  # an advantage is a difference of two values
        fine = fine + fine.max(initial=0)
    bounds, positive, more = label_frames(table, advantages, labels, forced, fine)
    made = Annotation(
        tag=check_tag(tag),
        returns=returns,
        normalizers=normalizers,
        values=values.of_frames,
        advantages=advantages,
        look_ahead=look_ahead,
        positive=positive,
        forced=forced,
        provenance={
            "dataset": table.digest(),
            "values": dict(values.origin),
            "c_neg": rules.c_neg,
            "n_step": rules.n,
            "normalizer": rules.normalizer,
            **outcomes.facts,
            "wanted_share": labels.share,
            "thresholds": bounds,
            "force_positive": force_positive,
            **({} if critic is None else {"critic": dict(critic)}),
            "vla_data": __version__,
        },
    )
    return made, tuple(f"{show(table.root.resolve().name)}: {text}" for text in warnings + more)


def _write(
    table: FrameTable, made: Annotation, layout: str | None, target: Path
) -> tuple[Sequence[str], Mapping[str, Json]]:
    module = _layout(layout)
    facts: Mapping[str, Json] = {}
    copies = layout is not None and TRAINERS[FORMER.get(layout, layout)].copies
    if module is not None and copies:
        module.write_copy(made, table, target)
    files = [write_annotation(made, table)]
    if module is not None and not copies:
        written = module.write(made, table)
        for name, data in written.files.items():
            write_file(table.root / name, data, root=table.root)
            files.append(name)
        facts = written.facts
    write_sums(table.root, files)
    return files, facts


def _layout(layout: str | None) -> ModuleType | None:
    if layout is None:
        return None
    module: ModuleType = load_trainer(layout, "advantages")
    return module


def _refuse_existing(root: Path, names: Sequence[str], *, replace: bool) -> None:
    """Refuse to overwrite an annotation, or files that somebody else's program made.

    Raises:
        TargetExistsError: E411.
        UsageError: E001, the file is a part of the dataset as it was published; it is never replaced.
    """
    published = _published(root)
    for name in names:
        if name in published:
            raise UsageError("E001", f"{name} was published with the dataset; take another --tag or --layout")
        if (root / name).exists() and not replace:
            raise TargetExistsError("E411", f"{show(name)} exists; --replace replaces it")


def _published(root: Path) -> Mapping[str, str]:
    """What the dataset's own sums list, which no annotation may touch."""
    try:
        return dict(parse_sums(read_file(root / SIDE / SEAL, root=root)[0]))
    except DataError as error:
        if error.code == "E133":
            return {}
        raise UsageError("E001", f"{SEAL} of {show(root)}: {error.message}") from None


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    folder = root / FOLDER
    with machine_errors("cannot write into the dataset"), folder_below(folder, root=root, make=True) as found:
        handle = os.dup(found)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError("E801", f"another run annotates {show(root)}") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
    finally:
        os.close(handle)
