"""Too little memory or too few threads is said before a library ends the process."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from typing import Any

import pytest

from tests.paths import ROOT
from vla_data.cli import room
from vla_data.errors import MachineError


@pytest.mark.parametrize(
    ("limit", "words"), [(resource.RLIMIT_AS, "ulimit -v"), (resource.RLIMIT_DATA, "ulimit -d")]
)
def test_little_memory_is_said(limit: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    used = {name: room._pages(column) * resource.getpagesize() for _, name, column in room._LIMITS}
    wanted = room._MEMORY + (os.cpu_count() or 1) * room._OF_A_CORE

    def allow(left: int) -> None:
        most = dict.fromkeys(used, resource.RLIM_INFINITY) | {limit: used[limit] + left}
        monkeypatch.setattr(resource, "getrlimit", lambda name: (most.get(name, 1 << 20), resource.RLIM_INFINITY))

    assert used[limit] > 0
    allow(2 * wanted)
    room.check_room()
    allow(wanted // 2)
    with pytest.raises(MachineError, match=rf"E703 .*{words}.*MiB"):
        room.check_room()


def test_few_threads_are_said_and_those_that_began_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_most_threads", lambda: 10)
    before = threading.active_count()
    room.check_room()
    assert threading.active_count() == before
    started: list[Any] = []
    start = threading.Thread.start

    def few(thread: threading.Thread) -> None:
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", few)
    with pytest.raises(MachineError, match=r"E703 .*only 3 of \d+ threads"):
        room.check_room()
    assert threading.active_count() == before


@pytest.mark.parametrize(("words", "code"), [(("inspect", "nothing"), 7), (("--help",), 0)])
def test_commands_but_not_their_help_ask_for_it(words: tuple[str, ...], code: int) -> None:
    call = (
        "import resource, sys; import vla_data.cli as cli; from vla_data.cli import room\n"
        "most = room._pages(0) * resource.getpagesize() + (64 << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most)); sys.argv[0] = 'vla-data'; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", call, *words],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("E703" in done.stderr) == (code == 7)
