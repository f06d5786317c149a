"""The card and the description for machines: valid, true, and inert whatever the texts of a dataset are."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import vla_data as vd
from tests.lerobot_sets import Here
from tests.paths import TESTS
from vla_data.hub.card import card, is_license
from vla_data.hub.croissant import croissant
from vla_data.hub.facts import Facts, facts_of


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    target = tmp_path_factory.mktemp("card") / "set"
    vd.run(vd.open_source(TESTS / "data/rollouts"), (), vd.open_sink(target), engine=Here())
    return facts_of(target)


def front(text: str) -> dict[str, object]:
    yaml = pytest.importorskip("yaml")
    _, told, _ = text.split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(told)
    return found


def test_it_asks_for_a_licence_and_claims_none(facts: Facts) -> None:
    text = card(facts, "me/set", None)
    told = front(text)
    assert "license" not in told
    assert "# license: which one" in text
    assert "Not declared" in text
    assert told["task_categories"] == ["robotics"]
    assert told["configs"] == [{"config_name": "default", "data_files": "data/*/*.parquet"}]
    assert told["size_categories"] == ["n<1K"]
    chosen = card(facts, "me/set", "cc-by-4.0")
    assert front(chosen)["license"] == "cc-by-4.0"
    assert "Not declared" not in chosen
    assert not is_license("mine: all")


def test_counts_sources_and_conventions_are_the_datasets(facts: Facts) -> None:
    text = card(facts, "me/set", None)
    assert f"{facts.episodes:,} episodes, {facts.frames:,} frames at 5 Hz" in text
    assert (facts.format, facts.version, facts.sources) == ("lerobot", "v3.0", ("PpoRolloutSource",))
    assert "kind delta" in text
    assert facts.content in text
    assert f"| kept | {facts.counts['kept']:,} |" in text


HOSTILE = (
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "a\n---\nlicense: mit",
    "| x | y |",
    "`rm -rf`",
    "\x1b[2J",
)


def test_texts_of_strangers_are_inert(facts: Facts) -> None:
    features = {**facts.schema.features, 'a`|<b>"': vd.Feature(dtype="float32", shape=(1,))}
    schema = vd.Schema(features=features, fps=5, robot=HOSTILE[0])
    odd = replace(facts, tasks=HOSTILE, task_count=90, schema=schema)
    text = card(odd, "me/set", None)
    assert front(text).keys() == front(card(facts, "me/set", None)).keys()
    body = text.split("---\n", 2)[2]
    assert "<script" not in body.replace("\\<script", "")
    assert "](" not in body.replace("\\]\\(", "")
    assert "\x1b" not in text
    assert "and 84 more" in body
    json.loads(croissant(odd, "me/set", None, url="u", files={"a": "0" * 64}, digest="0" * 64))


def test_croissant_is_what_mlcroissant_reads(facts: Facts, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    files = {p.relative_to(facts.root).as_posix(): "0" * 64 for p in facts.root.rglob("*") if p.is_file()}
    url = "https://example.org/me/set"
    text = croissant(facts, "me/set", "apache-2.0", url=url, files=files, digest=facts.content)
    (tmp_path / "croissant.json").write_text(text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of its packages
        found = mlcroissant.Dataset(tmp_path / "croissant.json")
    assert found.metadata.name == "set"
    assert [record.id for record in found.metadata.record_sets] == ["frames"]
    names = {field.source.extract.column for field in found.metadata.record_sets[0].fields}
    assert {"action", "next.success"} <= names
    assert not found.metadata.issues.errors
    unlicensed = croissant(facts, "me/set", None, url=url, files=files, digest=facts.content)
    assert "license" not in json.loads(unlicensed)
