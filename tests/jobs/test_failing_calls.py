"""Every call of the C library below the target's folder fails once, whoever makes it: we, Python, Arrow or FFmpeg.

What is left is never half a dataset: the old one and exit 7, or the new one where nothing depends on the call.
`scripts/nightly tests/jobs/test_failing_calls.py` lets each fail in six ways; each push takes every so many.
"""

from __future__ import annotations

import errno
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import JOBS, MINUTES, Lab, Outcome, fresh, leftovers, tree_hash
from tests.paths import TESTS

SHORT = {"rlds": 25, "h264": 25}
ERRORS = (errno.EIO, errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.ESTALE)


@dataclass(frozen=True, kw_only=True)
class Failure:
    job: str
    call: int
    errno: int


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("lab")
    source, library = TESTS.joinpath("failing_calls.c"), folder / "failing_calls.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    lab = Lab(folder, episodes=6, preload=library)
    yield lab
    lab.close()


def run(lab: Lab, failure: Failure, folder: Path) -> Outcome:
    target = fresh(folder) / "out"
    shutil.copytree(lab.old(failure.job), target)
    case = lab.case(failure.job, target, replace=True, part=3, call=failure.call, errno=failure.errno)
    return lab.run(case)


def check(lab: Lab, failure: Failure, folder: Path) -> tuple[str, int]:
    """The call that failed, and how the run ended."""
    outcome = run(lab, failure, folder)
    target, golden = folder / "out", lab.golden(failure.job)
    facts = (failure, outcome)
    seen = tree_hash(target)
    if outcome.code == 0:
        assert seen == golden, facts
    else:
        assert outcome.code == 7, facts
        assert outcome.message.isprintable()
        assert seen == tree_hash(lab.old(failure.job)), facts
    again = lab.run(lab.case(failure.job, target, replace=True, part=3))
    assert again.code == 0, (*facts, again)
    assert tree_hash(target) == golden, facts
    assert leftovers(target) == [], facts
    shutil.rmtree(folder)
    return outcome.called, outcome.code


def failures(lab: Lab, job: str) -> list[Failure]:
    lab.golden(job), lab.old(job)
    calls = run(lab, Failure(job=job, call=-1, errno=0), lab.folder / "count").calls
    assert calls > 100
    return [
        Failure(job=job, call=call, errno=ERRORS[(call + turn) % len(ERRORS)])
        for turn in range(len(ERRORS))
        for call in range(1, calls + 1)
    ]


def fail(lab: Lab, job: str, chosen: list[Failure], minutes: float) -> None:
    done = lab.each(
        lambda item: check(lab, item[1], lab.folder / f"{job}-{item[0]}"),
        list(enumerate(chosen)),
        minutes=minutes,
    )
    ends = Counter(code for _, code in done)
    print(
        f"\n{job}: {len(done):,} of {len(chosen):,} failing calls of {len({name for name, _ in done})} kinds: "
        f"exits {dict(ends)}, the old dataset or the new one, the next run whole"
    )


@pytest.mark.parametrize("job", SHORT)
def test_call_that_fails(job: str, lab: Lab) -> None:
    chosen = failures(lab, job)
    fail(lab, job, random.Random(0).sample(chosen, SHORT[job]), float("inf"))


@pytest.mark.nightly
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.timeout(0)
def test_every_call_fails_in_every_way(job: str, lab: Lab) -> None:
    every = failures(lab, job)
    random.Random(0).shuffle(every)  # time may run out
    fail(lab, job, every, MINUTES / len(JOBS))
