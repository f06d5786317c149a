"""Commands whose standard input, output or error is closed: what libraries print does not go into a dataset."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import tree_hash
from tests.rollouts import rollout, save

# A library that prints on the numbers 1 and 2 while files are open, as FFmpeg and HDF5 do, in parent and worker.
_PRINTS = """
import os, sys
from vla_data.files import write
def noise(name, path):
    for number in (1, 2):
        try:
            os.write(number, b"a warning of a library")
        except OSError:
            pass
write.hook = noise
from vla_data.cli import main
sys.argv = ["vla-data", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("to", ["lerobot", "rlds"])
def test_a_closed_descriptor_is_no_file_of_the_dataset(closed: str, to: str, tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / "in", f"{number}.npz", rollout(3, seed=number, size=(8, 8)))
    for folder, redirected in (("a", "</dev/null >/dev/null 2>/dev/null"), ("b", closed)):
        words = f'"$0" -c "$1" convert in {folder}/out --to {to} --workers 1 {redirected}'
        done = subprocess.run(["sh", "-c", words, sys.executable, _PRINTS], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr
    assert tree_hash(tmp_path / "a/out") == tree_hash(tmp_path / "b/out")
