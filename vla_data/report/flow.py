"""What came in, what came out, and why: the frames of a ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from vla_data.core import Json
from vla_data.core.findings import Section
from vla_data.core.ledger import BUCKETS, Ledger
from vla_data.core.manifest import has_step
from vla_data.errors import CODES
from vla_data.report.charts import Share, bar
from vla_data.report.page import sentence, table
from vla_data.report.words import escaped
from vla_data.safety.text import show

_RULES: Final = ("RequireSuccess", "CutAfterSuccess", "Rl4vlaCompat")
_MEANS: Final = {
    "kept": "in the dataset",
    "pruned": "taken out of an episode that stays",
    "truncated": "before or after the part of an episode that stays",
    "rejected": "of episodes that a rule took as a whole",
    "failed": "of episodes that can't be read or must not be used",
}


def flow(facts: Mapping[str, Json], ledger: Ledger | None) -> str:
    """The frames' flow; without a ledger, what is there."""
    if ledger is None:
        read = f"{facts['episodes_read']:,} of {facts['episodes']:,} episodes were read"
        text = (
            f"{read}, {facts['readable']:,} of them are readable. There is no ledger: what was taken out before, "
        )
        return sentence(f"{text}and why, is not known. A dataset that vla-data makes carries one.")
    counts = ledger.counts()
    shares = [Share(name=name, count=int(counts[name]), kind=name) for name in BUCKETS]
    whole = int(counts["source"])
    told = ", ".join(f"{share.name} {share.count:,}" for share in shares)
    rows = []
    for share in shares:
        rows.append((share.name, f"{share.count:,}", _share(share.count, whole), "", _MEANS[share.name]))
        rows += [
            (f"  {show(reason)}", f"{n:,}", _share(n, whole), f"{episodes:,}", CODES.get(reason, ""))
            for reason, (n, episodes) in _reasons(ledger, share.name).items()
        ]
    section = Section(
        head=("frames", "count", "share", "episodes", "what it is"),
        rows=tuple(rows),
        right=frozenset({1, 2, 3}),
    )
    legend = " ".join(
        f"<span class={share.kind} aria-hidden=true>■</span> {escaped(share.name)} {_share(share.count, whole)}"
        for share in shares
        if share.count
    )
    # Without such a rule, what the ledger calls solved is what flags say, and without flags everything.
    ruled = "provenance" in facts and any(has_step(facts, name) for name in _RULES)
    judged = f"{counts['successful_episodes']:,} solved the task by the recipe's rule." if ruled else ""
    episodes = (
        f"{counts['total_files']:,} episodes came in, {counts['published_episodes']:,} came out; of the others "
        f"{sum(r.status == 'rejected' for r in ledger.records):,} were rejected by a rule and "
        f"{counts['error_episodes']:,} failed. {judged or 'No known rule of success was applied.'}"
    )
    return (
        f"<p>{escaped(episodes)}</p>{bar(shares, label=f'{whole:,} source frames: {told}')}<p>{legend}</p>"
        f"{table(section, 'frames by what became of them')}"
        + sentence("vla-data why DATASET EPISODE FRAME answers for one frame.")
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def _reasons(ledger: Ledger, bucket: str) -> dict[str, tuple[int, int]]:
    """Reason -> frames and episodes that it put into ``bucket``, most frames first."""
    frames: Counter[str] = Counter()
    episodes: Counter[str] = Counter()
    for record in ledger.records:
        of_one: Counter[str] = Counter()
        for span in record.spans:
            if span.bucket == bucket and span.reason:
                of_one[span.reason] += span.stop - span.start
        frames += of_one
        episodes += Counter(of_one.keys())
    return {reason: (n, episodes[reason]) for reason, n in frames.most_common()}
