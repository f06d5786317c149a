"""Send a dataset to the Hub: checked first, in commits that can be interrupted, tagged last.

What the repository has already is not sent again, by its digest, so a run that was interrupted goes on where it
was. The card and the Croissant description are made on the way, and manifest and SHA256SUMS list them; a
``README.md`` of the author's own is sent as it is. The tag is set when everything is there, so a tag never names
half of a dataset.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vla_data.core import Json
from vla_data.core.manifest import MANIFEST
from vla_data.errors import DataError, TargetExistsError, UsageError, VerifyError
from vla_data.files.sums import format_sums
from vla_data.hub.card import CARD, card, is_license
from vla_data.hub.client import Content, Repository
from vla_data.hub.croissant import FILE as CROISSANT
from vla_data.hub.croissant import croissant
from vla_data.hub.facts import Facts, facts_of
from vla_data.jobs.manifest import json_bytes
from vla_data.safety import strict_json
from vla_data.safety.files import read_file
from vla_data.safety.text import show
from vla_data.verification.check import verify
from vla_data.verification.report import Verdict

MOST_FILES: Final = 100
MOST_BYTES: Final = 2 << 30
"""Of a commit: what is lost by an interruption is one of these at most."""

_REPO: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_TAG: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")
_OTHERS: Final = (".gitattributes",)


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What was sent.

    Attributes:
        repo: ``owner/name``.
        url: of its page.
        tag: that names it.
        sent: paths of the files that were sent, or would be.
        kept: how many the repository had already.
        removed: paths of files of another dataset that were removed.
        commits: ids of the commits.
        notes: what its author should know.
    """

    repo: str
    url: str
    tag: str
    sent: tuple[str, ...]
    kept: int
    removed: tuple[str, ...]
    commits: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Json]:
        """One JSON-ready object."""
        return {
            "repo": self.repo,
            "url": self.url,
            "tag": self.tag,
            "sent": list(self.sent),
            "kept": self.kept,
            "removed": list(self.removed),
            "commits": list(self.commits),
            "notes": list(self.notes),
        }


def push(
    path: str | Path,
    repo: str,
    *,
    tag: str | None = None,
    license: str | None = None,
    private: bool = True,
    replace: bool = False,
    dry_run: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Pushed:
    """Send a dataset of ours to a repository of the Hub.

    Args:
        path: the dataset.
        repo: ``owner/name``; it is created where it is not there.
        tag: of what is sent; None: LeRobot's version, by which lerobot finds it, else ``v1.0``.
        license: identifier of the licence that its author chose; None: the card asks for one.
        private: whether a new repository is for its owner alone.
        replace: whether files of another dataset are removed, and the tag is moved.
        dry_run: ask what is there, and send nothing.
        progress: called with a line before each commit.

    Raises:
        UsageError: E001 for names that are none, E003 for no dataset of ours.
        VerifyError: E601, the dataset is not what was published.
        TargetExistsError: E411, the repository has another dataset, or the tag names another commit.
        MachineError: E702 and E703, the Hub or the network did not do it; run it again.
    """
    if not _REPO.fullmatch(repo):
        raise UsageError("E001", f"{show(repo)} is no repository: OWNER/NAME")
    if license is not None and not is_license(license):
        raise UsageError("E001", f"{show(license)} is no licence's identifier, such as apache-2.0 or cc-by-4.0")
    verdict = verify(path)
    verdict.require()
    try:
        facts = facts_of(Path(path))
    except DataError as error:
        raise VerifyError("E601", f"{show(path)}: {error.message}") from None
    tag = tag if tag is not None else facts.version or "v1.0"
    if not _TAG.fullmatch(tag):
        raise UsageError("E001", f"{show(tag)} is no tag: letters, digits, _ . -")
    remote = Repository(repo)
    content, digests, notes = _content(facts, verdict, repo, license, remote.url)
    if not dry_run:
        remote.create(private=private)
    there = {} if dry_run and not _is_there(remote) else remote.files()
    missing = {
        name: data
        for name, data in content.items()
        if name not in there or not there[name].is_same(data, digests[name], _size(data))
    }
    others = tuple(sorted(there.keys() - content.keys() - {*_OTHERS}))
    tags = remote.tags() if there else {}
    if others and not replace:
        raise TargetExistsError(
            "E411", f"{show(repo)} has {len(others):,} other files, as {show(others[0])}; --replace removes them"
        )
    moved = tag in tags and (bool(missing) or bool(others) or tags[tag] != remote.head())
    if moved and not replace:
        raise TargetExistsError("E411", f"the tag {show(tag)} of {show(repo)} has other data; --replace moves it")
    commits = []
    if not dry_run:
        for number, some in enumerate(batches := _batches(missing), 1):
            progress(f"commit {number:,} of {len(batches):,}: {len(some):,} files")
            last = number == len(batches)
            commits.append(
                remote.commit(some, digests, others if last else (), _message(facts, number, len(batches)))
            )
        if others and not missing:
            commits.append(remote.commit({}, {}, others, "Remove files of another dataset"))
        if moved or tag not in tags:
            remote.tag(tag, again=moved)
    return Pushed(
        repo=repo,
        url=remote.url,
        tag=tag,
        sent=tuple(sorted(missing)),
        kept=len(content) - len(missing),
        removed=others,
        commits=tuple(commits),
        notes=tuple(notes),
    )


def _content(
    facts: Facts, verdict: Verdict, repo: str, license: str | None, url: str
) -> tuple[dict[str, Content], dict[str, str], list[str]]:
    """Path in the repository -> its content, and its SHA-256; and what to know."""
    digests = dict(verdict.hashes)
    content: dict[str, Content] = {name: facts.root / name for name in sorted(digests)}
    notes = []
    if CARD in verdict.others:
        content[CARD] = facts.root / CARD
        digests[CARD] = read_file(facts.root / CARD, root=facts.root)[1]
        notes.append(f"{CARD} is your own; it is sent as it is")
        if license is not None:
            raise UsageError("E001", f"there is a {CARD} of your own: write the licence there")
    else:
        _add(content, digests, CARD, card(facts, repo, license).encode())
        if license is None:
            notes.append("no licence is declared: the card asks for it (--license, or edit it there)")
    told = croissant(facts, repo, license, url=url, files=digests, digest=facts.content)
    _add(content, digests, CROISSANT, told.encode())
    _seal_again(facts, verdict, content, digests)
    if facts.undeclared:
        notes.append(f"nobody declared what these mean: {', '.join(map(show, facts.undeclared))}")
    left = [name for name in verdict.others if name != CARD]
    if left:
        notes.append(f"not sent, since it was not published: {', '.join(map(show, left[:5]))}")
    return content, digests, notes


def _seal_again(facts: Facts, verdict: Verdict, content: dict[str, Content], digests: dict[str, str]) -> None:
    """Put the card and the description into the manifest and into SHA256SUMS, so that what is fetched verifies."""
    name = f"{verdict.sidecar}/{MANIFEST}"
    manifest = strict_json.read(facts.root / name, root=facts.root)
    if isinstance(manifest.get("files"), dict):
        manifest["files"] |= {made: _size(content[made]) for made in (CARD, CROISSANT)}
        _add(content, digests, name, json_bytes(manifest))
    digests.pop(verdict.sums, None)
    _add(content, digests, verdict.sums, format_sums(digests))


def _add(content: dict[str, Content], digests: dict[str, str], name: str, data: bytes) -> None:
    content[name] = data
    digests[name] = hashlib.sha256(data).hexdigest()


def _is_there(remote: Repository) -> bool:
    """Whether the repository is there at all."""
    try:
        remote.head()
    except Exception as error:
        if "404" not in str(error):
            raise
        return False
    return True


def _size(data: Content) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _batches(missing: Mapping[str, Content]) -> list[dict[str, Content]]:
    """What is sent in one commit each. The card is in the last one, since it says that all is there."""
    out: list[dict[str, Content]] = []
    size = 0
    for name in sorted(missing, key=lambda name: (name in (CARD, CROISSANT), name)):
        data = missing[name]
        if not out or len(out[-1]) >= MOST_FILES or size + _size(data) > MOST_BYTES:
            out.append({})
            size = 0
        out[-1][name] = data
        size += _size(data)
    return out


def _message(facts: Facts, number: int, of: int) -> str:
    part = f", part {number} of {of}" if of > 1 else ""
    return f"{facts.episodes:,} episodes, {facts.frames:,} frames{part}"
