"""A source of which nothing can be read says what is wrong with it, by the code of that."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from tests import hdf5_files
from vla_data import open_source
from vla_data.cli.check_dynamics import command
from vla_data.errors import UsageError, VlaDataError
from vla_data.selection.mapping import schema_of

MESSAGE = r"no episode can be read; the first, .*: .*--task"


def test_a_schema_of_no_episode_names_the_first_ones_fault() -> None:
    with pytest.raises(UsageError, match=MESSAGE) as caught:
        schema_of(open_source(f"hdf5:{hdf5_files.ROBOMIMIC}"))
    assert caught.value.code == "E211"
    assert "\n" not in str(caught.value)


def test_a_check_of_no_episode_names_the_first_ones_fault(tmp_path: Path) -> None:
    file = tmp_path / "nan.hdf5"
    shutil.copyfile(hdf5_files.ROBOMIMIC, file)
    with h5py.File(file, "r+") as data:
        for demo in data["data"].values():
            demo["actions"][0] = np.nan
    run = CliRunner().invoke(command, [f"hdf5:{file}"])
    assert isinstance(run.exception, VlaDataError)
    assert run.exception.code == "E201"
    assert "no episode can be read; the first, " in run.exception.message


def test_a_schema_of_nothing_at_all(tmp_path: Path) -> None:
    class Empty:
        def episodes(self) -> tuple[()]:
            return ()

    with pytest.raises(UsageError, match="E003 not-found: the source has no episode"):
        schema_of(Empty())  # type: ignore[arg-type]
