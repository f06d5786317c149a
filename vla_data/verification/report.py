"""What `vla_data.verification.check` found, for a person and for a program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from vla_data.core import Json
from vla_data.core.findings import Section, html_of, text_of
from vla_data.errors import VerifyError
from vla_data.files.sums import SEAL
from vla_data.safety.text import plain, show

Kind = Literal["missing", "differs", "unexpected", "content"]
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong.

    Attributes:
        file: relative to the dataset; "." where it can't be pinned on one.
        problem: half a sentence.
        kind: "missing", "differs" (size, SHA-256 or form), "unexpected" (a file that is not ours), or "content"
            (found by ``deep``).
        episodes: ids of those that are known to suffer; empty without ``deep``.
    """

    file: str
    problem: str
    kind: Kind
    episodes: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for a person."""
        names = ", ".join(show(name) for name in self.episodes[:_SHOWN])
        more = f" and {len(self.episodes) - _SHOWN:,} more" if len(self.episodes) > _SHOWN else ""
        return plain(f"{show(self.file)}: {self.problem}" + (f" ({names}{more})" if names else ""))

    def to_json(self) -> dict[str, Json]:
        """JSON-ready."""
        return {
            "file": self.file,
            "problem": self.problem,
            "kind": self.kind,
            "episodes": list(self.episodes),
        }


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes:
        root: the dataset's folder.
        sidecar: folder of our own files in it, relative.
        damages: everything that is wrong; empty for a healthy dataset.
        notes: what a user may want to know and is no damage.
        checked: what was looked at: ``files`` and ``bytes`` in all, ``hashed`` files, ``hashed_bytes``, ``seed``
            of a sample, and the facts of a deep check.
        hashes: relative path -> SHA-256 of every file that was hashed.
        listed: relative path -> SHA-256 of every good line of ``SHA256SUMS``.
        others: relative paths of the files that are not in it.
    """

    root: Path
    sidecar: str
    damages: tuple[Damage, ...]
    notes: tuple[str, ...] = ()
    checked: Mapping[str, Json] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict, repr=False)
    listed: Mapping[str, str] = field(default_factory=dict, repr=False)
    others: tuple[str, ...] = field(default=(), repr=False)

    @property
    def sums(self) -> str:
        """``SHA256SUMS``, relative to the root."""
        return (PurePosixPath(self.sidecar) / SEAL).as_posix()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with what was looked at."""
        return not self.damages

    def require(self) -> None:
        """Raise what is wrong.

        Raises:
            VerifyError: E601, with the first damage and the number of others.
        """
        if self.damages:
            more = f"; {len(self.damages) - 1:,} more" if len(self.damages) > 1 else ""
            raise VerifyError("E601", self.damages[0].line() + more)

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        return {
            "path": str(self.root),
            "ok": self.ok,
            "damages": [damage.to_json() for damage in self.damages],
            "notes": list(self.notes),
            "checked": dict(self.checked),
        }

    def sections(self) -> tuple[Section, ...]:
        """What was looked at, and how many damages there are."""
        seen = self.checked
        every = "the others by name and size alone" if seen["hashed"] < seen["files"] else "all of them"
        rows = [
            ("Files", f"{seen['files']:,}", f"{seen['bytes']:,} bytes"),
            ("SHA-256 of", f"{seen['hashed']:,}", f"{seen['hashed_bytes']:,} bytes; {every}"),
        ]
        if "episodes" in seen:
            rows.append(("Examined", f"{seen['episodes']:,}", f"episodes, {seen['frames']:,} frames"))
        if "against" in seen:
            rows.append(("Compared", f"{seen['against']['compared']:,}", "episodes with their sources"))
        rows.append(("Damages", f"{len(self.damages):,}", ""))
        told = Section(rows=tuple(rows), right=frozenset({1}))
        return (told, _agreement(seen["against"])) if "against" in seen else (told,)

    def __str__(self) -> str:
        return text_of(self.sections())

    def _repr_html_(self) -> str:
        return html_of((*self.sections(), Section(notes=tuple(damage.line() for damage in self.damages))))


def _agreement(facts: Mapping[str, Json]) -> Section:
    """What comparing with the sources gave, a row a feature."""
    rows = []
    for name, feature in facts["features"].items():
        how = f"{feature['differing']:,} differ" if feature["differing"] else "equal"
        if "psnr_min" in feature and not feature["differing"]:
            how = f"lossy, PSNR {feature['psnr_min']:.1f} dB or more, mean {feature['psnr_mean']:.1f}"
        elif feature.get("same_bytes") == feature["values"]:
            how = "the same bytes"
        if "dtype" in feature:
            how += f" as {feature['dtype'].split()[-1]}"
        rows.append((show(name), f"{feature['values']:,}", how))
    notes = [
        f"{title}: {', '.join(show(name) for name in facts[key])}"
        for title, key in (("Not stored", "not_stored"), ("Added", "added"))
        if facts[key]
    ]
    return Section(rows=tuple(rows), right=frozenset({1}), notes=tuple(notes))
