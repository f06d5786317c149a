"""The card of a dataset: ``README.md`` with what is known of it, and a question where only its author knows.

No licence is claimed: without one from the author the card has none, and asks. Whatever is from a dataset (names,
instructions) is shown so that it can't become Markdown or HTML of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from vla_data.core import Feature, Json
from vla_data.hub.facts import Facts
from vla_data.safety.text import show

CARD: Final = "README.md"
_SIZES: Final = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_LICENSE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")
_KNOWN: Final = ("kind", "frame", "reference", "translation_unit", "rotation", "rotation_unit", "joint_unit")


def is_license(text: str) -> bool:
    """Whether this may be the identifier of a licence, such as ``apache-2.0``."""
    return _LICENSE.fullmatch(text) is not None


def card(facts: Facts, repo: str, license: str | None) -> str:
    """The text of the card.

    Args:
        facts: of the dataset.
        repo: ``owner/name``.
        license: the identifier that its author gave; None: nobody has.
    """
    return "\n".join(["---", *_front(facts, license), "---", "", *_body(facts, repo, license), ""])


def _front(facts: Facts, license: str | None) -> list[str]:
    """The YAML before the text; its values are written as JSON, which YAML reads."""
    size = next((name for most, name in _SIZES if facts.frames < most), "n>1M")
    is_lerobot = facts.format == "lerobot"
    told: dict[str, Json] = {
        **({"license": license} if license else {}),
        "task_categories": ["robotics"],
        "tags": ["robotics", "vla-data", *(["LeRobot"] if is_lerobot else [facts.format])],
        "size_categories": [size],
    }
    if is_lerobot:
        told["configs"] = [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=True)}" for key, value in told.items()]
    asked = "# license: which one do you publish this under? For example apache-2.0 or cc-by-4.0"
    return lines if license else [asked, *lines]


def _body(facts: Facts, repo: str, license: str | None) -> list[str]:
    rate = f"{facts.schema.fps:g} Hz"
    robot = facts.schema.robot
    out = [
        f"# {_plain(repo.rpartition('/')[2])}",
        "",
        f"{facts.episodes:,} episodes, {facts.frames:,} frames at {rate}"
        + (f", robot {_plain(robot)}" if robot else "")
        + f". Format: {facts.format}{f' {facts.version}' if facts.version else ''}.",
        "",
        "## Licence",
        "",
        f"`{license}`, as its author says."
        if license
        else "**Not declared.** Nobody has said under which licence this may be used: ask its author. Author: put "
        "`license: ...` into the first lines of this file, after a look at the licences of the sources below.",
        "",
        "## Sources",
        "",
        f"Made by vla-data {_plain(facts.maker)} from: {', '.join(map(_plain, facts.sources)) or 'unknown'}. "
        f"Steps: {', '.join(map(_plain, facts.steps)) or 'none'}. Author: name the datasets or robots that these "
        "are, with their own licences.",
        "",
        "| frames | |",
        "|---|---|",
        *(
            f"| {key} | {facts.counts[key]:,} |"
            for key in ("source", "kept", "pruned", "truncated", "rejected", "failed")
            if isinstance(facts.counts.get(key), int)
        ),
        "",
        "## Features",
        "",
        "| name | type | shape | what it means |",
        "|---|---|---|---|",
        *(_row(name, feature) for name, feature in sorted(facts.schema.features.items())),
        "",
    ]
    if facts.undeclared:
        listed = ", ".join(map(_code, facts.undeclared))
        out += [f"Nobody declared what these mean: {listed}.", ""]
    more = facts.task_count - len(facts.tasks)
    if facts.tasks:
        out += ["## Instructions", "", "Of the first episodes:", ""]
        out += [*(f"- {_plain(task)}" for task in facts.tasks), *([f"- and {more:,} more"] if more else []), ""]
    out += [
        "## Checking it",
        "",
        "Every file's SHA-256 is in `SHA256SUMS`; with vla-data, `vla-data verify FOLDER` checks them and "
        "`vla-data why FOLDER EPISODE` says what became of a source's frames.",
        f"SHA-256 over the content of all episodes: `{facts.content}`.",
    ]
    return out


def _row(name: str, feature: Feature) -> str:
    shape = " x ".join(map(str, feature.shape))
    return f"| {_code(name)} | {feature.dtype} | {shape} | {_meaning(feature.convention) or '-'} |"


def _meaning(convention: Mapping[str, Any]) -> str:
    """The facts of a convention that a reader needs first."""
    told = [f"{key} {convention[key]}" for key in _KNOWN if convention.get(key, "undeclared") != "undeclared"]
    layout = convention.get("layout")
    if isinstance(layout, Mapping):
        told.append("layout " + ", ".join(f"{part} {list(at)}" for part, at in layout.items()))
    return _plain("; ".join(told))


def _plain(text: object) -> str:
    """A text of a stranger, which is not to be Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&@:-])", r"\\\1", show(text, escaped=True))


def _code(text: str) -> str:
    """A name as code."""
    return f"`{show(text, escaped=True).replace('`', chr(39)).replace('|', '/')}`"
