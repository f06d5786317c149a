"""The attack corpus of pickles, as files of the formats whose files are pickles themselves."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import vla_data as vd
from tests import attacks
from tests.converters.rlinf import test_rlinf
from tests.ript_rollouts import quest
from vla_data.errors import DataError

NAMES = {"rlinf": "rank_0_env_0_episode_0_success.pkl", "ript": "rollouts.pkl"}
WATCHED = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.__new__")
PIECES = {
    **{f"execute_{name}": build for name, build in attacks._EXECUTE.items()},
    **{f"nested_{name}": lambda c, w=wrap: w(attacks.system(c)) for name, wrap in attacks._NESTED.items()},
}


def payloads(canary: Path) -> dict[str, bytes]:
    """Name -> a whole pickle; each would touch the canary, or is malformed."""
    out = {name: attacks.pickled(build(canary)) for name, build in PIECES.items()}
    # In the place of a value of an episode that is right otherwise.
    for name, told in (("in_rlinf", test_rlinf.episode()), ("in_ript", quest())):
        honest = pickle.dumps(told, protocol=4)
        assert honest[-2:] == b"u."
        for piece, build in PIECES.items():
            out[f"{name}_{piece}"] = honest[:-2] + attacks.text("success") + build(canary) + b"u."
    return out


@pytest.mark.parametrize("format", NAMES)
def test_nothing_runs_and_each_is_refused(format: str, tmp_path: Path) -> None:
    canary, folder = tmp_path / "canary", tmp_path / "in"
    folder.mkdir()
    source = vd.open_source(f"{format}:{folder}")
    seen: list[str] = []
    on = [True]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if on[0] and event in WATCHED:
            seen.append(f"{event} {args}"[:200])

    sys.addaudithook(watch)
    made = payloads(canary)
    assert len(made) > 60
    wrong = []
    for name, data in made.items():
        (folder / NAMES[format]).write_bytes(data)
        (ref,) = source.episodes()
        try:
            source.read(ref)
            wrong.append(name)
        except DataError as error:
            assert error.code in ("E101", "E103", "E104"), (name, str(error))
    on[0] = False
    assert wrong == []
    assert seen == []
    assert not canary.exists()


def test_the_payloads_are_real(tmp_path: Path) -> None:
    """The proof above can fail: the standard library's unpickler does touch the canary."""
    canary = tmp_path / "canary"
    pickle.loads(attacks.pickled(attacks.system(canary)))
    assert canary.exists()
