"""The one verb: `run` takes a source's episodes through steps into a sink, and accounts for every frame."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace as changed
from pathlib import Path
from typing import Final

from vla_data.core import Elsewhere, EpisodeRef, Json, Published, Schema, Sink, Source
from vla_data.core.base import narrowed, paths_of, split_of, traits_of, whole
from vla_data.core.curate import Judges, Step
from vla_data.core.ledger import Ledger, Record
from vla_data.core.parts import check_sink, check_source, check_steps
from vla_data.errors import DataError, MachineError, RefusedError, UsageError
from vla_data.files.write import check_space, machine_errors, make_folder, remove_tree, write_file
from vla_data.jobs.duplicates import repeats, told, without
from vla_data.jobs.engine import Engine, Finishes, LocalEngine
from vla_data.jobs.job import Job, absolute
from vla_data.jobs.making import make
from vla_data.jobs.manifest import write_sidecar, write_sums
from vla_data.jobs.memory import give_back
from vla_data.jobs.part import Made, Part, plan, read_blob
from vla_data.jobs.pool import Limits
from vla_data.jobs.progress import Told
from vla_data.jobs.publish import publish
from vla_data.jobs.remarks import clips, drawn, noted, nothing_left, quarantined, tell, why
from vla_data.jobs.report import Report
from vla_data.jobs.schemas import common_schema
from vla_data.jobs.targets import Seen
from vla_data.jobs.workspace import check_target, workspace
from vla_data.remote.cache import origin
from vla_data.safety.text import show

_LOG: Final = logging.getLogger("vla_data")


def run(
    source: Source,
    steps: Sequence[Step],
    sink: Sink,
    *,
    workers: int | None = None,
    replace: bool = False,
    max_bad: float | None = None,
    dedup: bool = False,
    limits: Limits | None = None,
    engine: Engine | None = None,
    on_progress: Told | None = None,
    on_problem: Callable[[str], None] | None = None,
    before_publishing: Callable[[Path], object] | None = None,
) -> Report:
    """Make a dataset: every episode is read, curated and encoded, and all that remain are published at once.

    The result depends on the source's content and the recipe alone, not on ``workers``. A run that was
    interrupted continues when it is called again.

    Args:
        source: where episodes come from.
        steps: transforms and filters, in order.
        sink: what is written, and where.
        workers: processes; None: one for each core.
        replace: publish over an existing dataset of ours, which is removed last.
        max_bad: largest share of quarantined episodes; None: 0.1, or one episode where that is more.
        dedup: reject an episode whose content an earlier one has already.
        limits: memory and time of a worker.
        engine: what makes the parts, such as `vla_data.jobs.beam.engine.BeamEngine`; None: processes of this
            machine.
        on_progress: called with (episodes done, episodes in all); `vla_data.Progress` shows it.
        on_problem: called with one line for every quarantined or ignored episode; of more than ten with one
            message, with the first few and a count. None: the logger ``vla_data`` has the lines, and the report's
            warnings have a summary.
        before_publishing: called with the folder of the finished dataset, whose last part is that of the target;
            what it raises stops the run, and nothing is published.

    Returns:
        The report; ``str()`` of it is the statistics block.

    Raises:
        VlaDataError: see `vla_data.errors`; nothing is published then.
    """
    check_source(source)
    check_sink(sink)
    steps = check_steps(steps)
    with machine_errors("cannot find the current folder"):
        source, named, sink = absolute(source), sink, absolute(sink)
    source = narrowed(source, steps)
    refs = list(source.episodes())
    _check_refs(source, refs)
    check_place(source, sink, replace=replace)
    with workspace(sink.target) as work:
        # Another run may have published between the first look and the lock.
        check_place(source, sink, replace=replace)
        with machine_errors("cannot look at the target"):
            seen = Seen.at(sink.target)
        job = Job(source, steps, sink, work / "parts")
        states = whole(source).states(refs)
        parts = plan(refs)
        engine = engine or LocalEngine(workers or _cores())
        made = make(job, parts, len(refs), engine, limits or Limits(), on_progress)
        records = [item.record for part in parts for item in made[part.number]]
        tell(records, on_problem or _log)
        check_bad(records, max_bad)
        published, records, warnings = _select(job, parts, made, records, dedup=dedup)
        schema = common_schema(
            (episode.id, text) for episode, text in (published if sink.one_schema else published[:1])
        )
        warnings += noted(records, schema, (*steps, sink))
        if on_problem is None:  # nobody has shown them yet
            warnings += quarantined(records)
        ledger = Ledger(tuple(_placed(sink, records, [item for item, _ in published])))
        ledger.check()
        warnings += drawn(ledger.records, traits_of(sink).val)
        staging = work / "staging"
        with machine_errors("cannot write the dataset", own=True):
            remove_tree(staging)
            check_space(work, sum(item.size for items in made.values() for item in items))
            make_folder(staging / sink.sidecar)
            sink.assemble([item for item, _ in published], schema, staging)
            give_back()
            _keep_files(source, steps, sink, ledger, staging)
            write_sidecar(staging, job, schema, ledger)
            # Reading back and hashing are two passes over the same bytes; both leave the interpreter's lock.
            with ThreadPoolExecutor(1) as beside:
                checked = beside.submit(sink.check, staging, [item for item, _ in published])
                write_sums(staging, sink.sidecar)
                checked.result()
            if before_publishing is not None:
                before_publishing(staging)
            _check_unchanged(source, refs, states)
            if isinstance(sink, Elsewhere):
                sink.publish(staging, replace=replace)
            else:
                publish(staging, sink.target, seen)
    if isinstance(engine, Finishes):
        with suppress(MachineError):  # it is published; what stays in a bucket is in nobody's way
            engine.finish(job, job.digest(), parts)
    judged = any(isinstance(step, Judges) for step in steps)
    where = sink.place if isinstance(sink, Elsewhere) else named.target
    return Report(where, ledger, judged, tuple(warnings), _details(ledger, schema))


def _check_unchanged(source: Source, refs: Sequence[EpisodeRef], states: Mapping[str, object]) -> None:
    """Refuse to publish a mixture of two states of a source.

    Raises:
        RefusedError: E403.
    """
    try:
        now = whole(source).states(refs)
    except (UsageError, DataError) as error:  # the run has read it, so it was whole then
        what = f"the source changed while the run worked ({error.message})"
        raise RefusedError("E403", f"{what}: run it again") from None
    changed = [name for name in states if now.get(name) != states[name]]
    if changed:
        more = f" and {len(changed) - 1:,} more" if len(changed) > 1 else ""
        raise RefusedError(
            "E403", f"the source of {show(changed[0])}{more} changed while the run worked: run it again"
        )


def _places(source: Source) -> Sequence[object]:
    """Paths, storages, and addresses of what was fetched."""
    return [origin(root) or root if isinstance(root, Path) else root for root in whole(source).roots]


def check_place(source: Source, sink: Sink, *, replace: bool) -> None:
    """Refuse a target that can't be published to.

    Raises:
        UsageError: E001, target and input lie inside one another.
        TargetExistsError: E411, it exists and may not be replaced.
    """
    check_target(sink.target, paths_of(source), replace=replace)
    if isinstance(sink, Elsewhere):
        mine = f"{sink.place}/"
        for place in (
            f"{place}/" for place in _places(source) if place is not None and not isinstance(place, Path)
        ):
            if place.startswith(mine) or mine.startswith(place):
                raise UsageError(
                    "E001", f"the target {show(sink.place)} and the input must not lie inside one another"
                )
        sink.check_place(replace=replace)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_refs(source: Source, refs: Sequence[EpisodeRef]) -> None:
    seen: set[str] = set()
    for ref in refs:
        if ref.id in seen:
            raise UsageError("E004", f"the source lists {show(ref.id)} twice")
        seen.add(ref.id)
    if not refs:
        for place in paths_of(source):
            if not place.exists():
                raise UsageError("E003", f"{show(place)} is not there")
        raise RefusedError("E402", "the source has no episodes")


def check_bad(records: Sequence[Record], max_bad: float | None) -> None:
    """Refuse a run of too many episodes that can't be used.

    Raises:
        RefusedError: E402 when there is none that can, E401 when more than ``max_bad`` can't.
    """
    counted = [record for record in records if record.status != "ignored"]
    bad = sum(record.status == "failed" for record in counted)
    # One bad episode never costs the others, however few there are, unless a limit was given.
    allowed = max(1.0, 0.1 * len(counted)) if max_bad is None else max_bad * len(counted)
    if bad and bad == len(counted):
        raise RefusedError("E402", f"none of {bad:,} episodes can be used{why(counted)}")
    if bad > allowed:
        enough = math.ceil(100 * bad / len(counted)) / 100
        raise RefusedError(
            "E401", f"{bad:,} of {len(counted):,} episodes can't be used; --max-bad {enough:g} accepts it"
        )


def _select(
    job: Job,
    parts: Sequence[Part],
    made: Mapping[int, Sequence[Made]],
    records: Sequence[Record],
    *,
    dedup: bool,
) -> tuple[list[tuple[Published, str]], list[Record], list[str]]:
    """The episodes to publish with their schemas, all records with what became of duplicates, warnings."""
    again = repeats(records)
    published = []
    for part in parts:
        for item in made[part.number]:
            if item.summary is None or (dedup and item.record.id in again):
                continue
            content = str(item.record.content_sha256)
            episode = Published(item.record.id, content, item.summary, item.sha256, _Reader(job, part, item))
            published.append((episode, item.schema))
    warnings = [] if dedup else told(again)
    if not published:
        raise RefusedError("E402", nothing_left(Ledger(tuple(records)).reasons()))
    out = without(records, again) if dedup else list(records)
    by_default = sum(record.meta.info_timing_rule == "default" for record in out)
    if by_default:
        warnings.append(
            f"episodes that do not show whether info is of before or after the action: {by_default:,}; "
            "taken as after (--info-timing)"
        )
    return published, out, warnings


def _log(line: str) -> None:
    _LOG.log(logging.INFO if line.endswith("(left alone)") else logging.WARNING, line)


class _Reader:
    """Reads one encoded episode when the sink wants it. `Sink.check` compares the result with its digest."""

    def __init__(self, job: Job, part: Part, item: Made) -> None:
        self._job, self._part, self._item = job, part, item

    def __call__(self) -> bytes:
        return read_blob(self._job, self._part, self._item)


def _placed(sink: Sink, records: Sequence[Record], published: Sequence[Published]) -> Iterable[Record]:
    """Records with the places of their episodes in the dataset."""
    places = {episode.id: place for place, episode in enumerate(published)}
    splits = split_of(sink, published)
    for record in records:
        if record.status == "published":
            yield changed(record, output_index=places[record.id], split=splits[record.id])
        else:
            yield record


def _keep_files(source: Source, steps: Sequence[Step], sink: Sink, ledger: Ledger, folder: Path) -> None:
    """Copy what lies beside a source's data and is not of its format, where source and sink are of one format."""
    if not traits_of(sink).keeps_files:
        return
    told = whole(source)
    unchanged = not steps and told.is_whole
    unchanged = unchanged and all(r.status == "published" and r.frames("kept") == r.length for r in ledger.records)
    for file in told.extra_files():
        target = folder / file.target(unchanged=unchanged)
        make_folder(target.parent)
        try:
            write_file(target, file.read(paths_of(source)[0]), sync=False)
        except DataError as error:
            raise MachineError("E703", f"{show(file.path)} of the source: {error.message}") from None


def _details(ledger: Ledger, schema: Schema) -> dict[str, Json]:
    splits: dict[str, int] = defaultdict(int)
    for record in ledger.records:
        if record.split is not None:
            splits[record.split] += 1
    copied = clips(record for record in ledger.records if record.status == "published")
    video = {"video": copied} if copied else {}
    return {"splits": dict(sorted(splits.items())), "fps": schema.fps, **video}
