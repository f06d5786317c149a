"""Runs of RIPT that are killed: ``python -m tests.training.ript_kills FOLDER OPTIONS KILLS``.

OPTIONS is JSON of `RIPTConfig`, KILLS of numbers. Each number is a process that dies without a word before that
step of a write, and the next one goes on from there; the last one is left alone. Prints how many steps it had.
"""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from tests.training import follow
from training_adapters.ript.config import RIPTConfig
from training_adapters.ript.program import Program
from training_adapters.runs import Run
from vla_data.files import write


def run(folder: Path, options: dict[str, object], kill: int) -> None:
    seen = [0]

    def count(name: str, path: Path) -> None:
        seen[0] += 1
        if seen[0] == kill:
            os._exit(9)

    write.hook = count
    config = RIPTConfig(**options)  # type: ignore[arg-type]
    resume = (folder / "config.json").exists()
    with Program(config, Run(folder, config, resume=resume, out=io.StringIO()), resume=resume) as program:
        program.train()
    print(seen[0], flush=True)


def main(folder: str, options: str, kills: str) -> None:
    torch.set_num_threads(1)
    follow.install(pytest.MonkeyPatch())
    for kill in [*json.loads(kills), 0]:
        child = os.fork()
        if child == 0:
            run(Path(folder), json.loads(options), kill)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in ((0, 9) if kill else (0,)), code


if __name__ == "__main__":
    main(*sys.argv[1:])
