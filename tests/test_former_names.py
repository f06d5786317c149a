"""Python names of version 0.1 still work."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator

import pytest

import vla_data as vd
from vla_data import former_names


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Former modules become attributes of today's packages; other tests shall not meet them."""
    modules = dict(sys.modules)
    kept = {name: dict(vars(module)) for name, module in modules.items() if name.split(".")[0] in OURS}
    yield
    for name in sys.modules.keys() - modules.keys():
        if name in former_names.NAMES:
            del sys.modules[name]
    for name, facts in kept.items():
        for key in vars(modules[name]).keys() - facts.keys():
            if f"{name}.{key}" in former_names.NAMES:
                delattr(modules[name], key)
        for key, value in facts.items():
            if f"{name}.{key}" in former_names.NAMES and vars(modules[name]).get(key) is not value:
                setattr(modules[name], key, value)


OURS = ("vla_data", "converters", "builders", "training_adapters")
NEEDS = {
    "converters.gates.lerobot": "lerobot",
    "training_adapters.batches": "torch",
}
"""Modules whose library may not be installed."""


@pytest.mark.parametrize("name", [*former_names.NAMES, *former_names.RENAMED])
def test_a_module_is_imported_by_its_former_name(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        found = importlib.import_module(name)
        now = importlib.import_module(former_names.NAMES[name])
    public = [key for key in vars(now) if key[0] != "_"]
    assert all(getattr(found, key) is getattr(now, key) for key in public)
    assert all(callable(getattr(found, key)) for key in former_names.RENAMED.get(name, {}))


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in former_names.MEMBERS.items() for name in names]
)
def test_a_package_has_what_was_its_own(package: str, name: str) -> None:
    if "beam" in package:
        pytest.importorskip("apache_beam")
    assert getattr(importlib.import_module(package), name).__name__ == name


def test_a_former_name_warns_and_says_the_name_of_today() -> None:
    sys.modules.pop("vla_data.seal", None)
    with pytest.warns(DeprecationWarning, match=r"vla_data\.seal is vla_data\.files\.sums now"):
        importlib.import_module("vla_data.seal")


def test_a_function_whose_name_was_a_module_can_be_called_in_any_case() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("vla_data.verify")
        importlib.import_module("vla_data.repair")
    with pytest.raises(vd.NotFoundError):
        vd.verify("nothing is here")
    assert callable(vd.repair)


def test_the_tables_are_sorted() -> None:
    for table in (former_names.NAMES, former_names.MEMBERS, former_names.RENAMED):
        assert list(table) == sorted(table)
