"""Facts of an episode have declared names, and stay the dictionary that they were in version 0.1."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vla_data as vd
from tests.paths import ROOT, TESTS
from vla_data.core.ledger import Record
from vla_data.core.meta import DECLARED

DATA = TESTS / "data"
SETS: dict[str, dict[str, Any]] = {
    "rollouts": {},
    "hdf5/aloha_episode_0.hdf5": {"task": "x", "fps": 50, "channel_order": "rgb"},
    "hdf5/libero_spatial0_demo.hdf5": {},
    "hdf5/maniskill_PickCube.h5": {"task": "x", "fps": 20},
    "hdf5/robomimic_lift.hdf5": {"task": "x"},
    "rlds": {"fps": 5, "allow_empty_instruction": True},
}


def episode(meta: Any) -> vd.Episode:
    return vd.Episode(id="a", arrays={}, frames={}, task="t", index=np.arange(2), meta=meta)


@pytest.mark.parametrize("name", SETS)
def test_every_fact_that_a_source_tells_is_declared(name: str, tmp_path: Path) -> None:
    source = vd.open_source(DATA / name, **SETS[name])
    metas = [source.read(ref).meta for ref in source.episodes()[:2]]
    vd.run(
        source,
        vd.recipes.ppo_sft(min_success_steps=1) if name == "rollouts" else (),
        vd.open_sink(tmp_path / "out"),
    )
    again = vd.open_source(tmp_path / "out")
    metas += [again.read(ref).meta for ref in again.episodes()[:2]]
    metas += [record.meta for record in vd.open_ledger(tmp_path / "out").records]
    assert set().union(*metas) <= DECLARED
    assert all(type(meta) is vd.EpisodeMeta for meta in metas)


def test_a_dictionary_of_version_01_is_read_by_key_and_by_name() -> None:
    made = episode({"source": "grid", "source_length": 2, "mine": [1]})
    assert (made.meta.source, made.meta["source"], made.meta.source_length) == ("grid", "grid", 2)
    assert made.meta["mine"] == [1]
    more = replace(made, meta={**made.meta, "solved": True})
    assert more.meta.solved is True
    assert more.meta == {"source": "grid", "source_length": 2, "mine": [1], "solved": True}
    assert json.loads(json.dumps(more.meta)) == more.meta
    more.meta["split"] = "val"
    assert more.meta.split == "val"


def test_what_is_not_told_has_its_default_or_says_so() -> None:
    meta = vd.EpisodeMeta(origin=["no mapping"])
    assert (meta.split, meta.origin, list(meta.masks), dict(meta.declared)) == (None, None, [], {})
    with pytest.raises(KeyError, match="source_length"):
        _ = meta.source_length


def test_a_keyword_that_nobody_declared_is_refused() -> None:
    with pytest.raises(TypeError, match="solvd"):
        vd.EpisodeMeta({"any": 1}, solvd=True)
    with pytest.raises(AttributeError):
        vd.EpisodeMeta().split = "val"  # type: ignore[misc]


def test_facts_survive_workers_and_ledgers() -> None:
    meta = vd.EpisodeMeta({"mine": 1}, split="val")
    again = pickle.loads(pickle.dumps(meta))
    assert (type(again), again) == (vd.EpisodeMeta, meta)
    assert Record(id="a", status="failed", meta={"split": "val"}).meta.split == "val"  # type: ignore[arg-type]


def literal_keys(tree: ast.AST) -> Iterator[int]:
    """Lines that read a fact of ``<...>.meta`` by a literal key."""

    def is_meta(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "meta"

    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and is_meta(node.value) and isinstance(node.slice, ast.Constant):
            yield node.lineno
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "get"
            and is_meta(node.func.value)
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.lineno


def test_no_room_reads_a_fact_by_a_literal_key() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for package in ("vla_data", "converters", "training_adapters", "builders")
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in literal_keys(ast.parse(path.read_text()))
    ]
    assert found == []
    assert len([*literal_keys(ast.parse('a.meta["x"]; b.c.meta.get("x", 1); a.meta.get(k); meta["x"]'))]) == 2
