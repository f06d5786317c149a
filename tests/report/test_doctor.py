"""What works on this machine, compared with the package's own metadata."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata

import pytest
from click.testing import CliRunner

from tests.paths import ROOT
from vla_data.cli import cli
from vla_data.report import doctor
from vla_data.report.doctor import EXTRAS, Extra, Package


def test_extras_are_those_of_the_package() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    del told["test"], told["docs"]  # of who works on the package
    found = {name: {(package.name, package.least) for package in extra.packages} for name, extra in EXTRAS.items()}
    want = {name: {tuple(re.split(">=", text)) for text in texts} for name, texts in told.items()}
    assert found == want
    assert list(EXTRAS) == sorted(EXTRAS)


@pytest.mark.parametrize(
    ("package", "statement", "works", "says"),
    [
        (Package("numpy", "numpy", "1.0"), "", True, ""),
        (Package("no-such-package-here", "nothing", "1.0"), "", False, "not installed: no-such-package-here"),
        (Package("numpy", "numpy", "999.0"), "", False, "is older than 999.0"),
        (
            Package("numpy", "numpy.no_such_module", "1.0"),
            "",
            False,
            "`import numpy.no_such_module` fails: Module",
        ),
        (Package("numpy", "numpy", "1.0"), "raise SystemExit(3)", False, "exit code 3"),
        (Package("numpy", "numpy", "1.0"), "import os; os.abort()", False, "fails"),
    ],
)
def test_each_reason_is_told(
    monkeypatch: pytest.MonkeyPatch, package: Package, statement: str, works: bool, says: str
) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"x": Extra("to try", (package,), statement)})
    (health,) = doctor.examine()
    assert health.works == works
    assert says in health.problem
    assert (health.remedy != "") == ("installed" in says or "older" in says)


def test_versions_are_those_that_are_installed() -> None:
    result = CliRunner().invoke(cli, ["doctor", "--quick", "--json"])
    assert result.exit_code == 0
    for extra in json.loads(result.stdout)["extras"]:
        for name, version in extra["versions"].items():
            assert version == metadata.version(name)
