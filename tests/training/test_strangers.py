"""Checkpoints and runs of strangers: one error or a policy, whatever is in them; nothing else is touched."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("mujoco")

from tests.paths import ROOT  # noqa: E402
from tests.training.small import policy  # noqa: E402
from training_adapters import checkpoints, params  # noqa: E402
from training_adapters.cli import _result_file  # noqa: E402
from training_adapters.evaluate import Evaluation  # noqa: E402
from training_adapters.fast.fit import FACTS, FastFit, Fitted  # noqa: E402
from training_adapters.intervals import Share  # noqa: E402
from training_adapters.loop import Group, Optimisation, accelerator, constant  # noqa: E402
from training_adapters.recap.record import Record  # noqa: E402
from training_adapters.ript.ledger import NAME, Ledger  # noqa: E402
from training_adapters.runs import METRICS, Run  # noqa: E402
from training_adapters.sft.config import SFTConfig  # noqa: E402
from vla_data.errors import DataError, LockedError, TargetExistsError, UsageError, VlaDataError  # noqa: E402

FILES: Final = (
    "metadata.json",
    "params/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/processor_config.json",
    "train_state/state.json",
    "train_state/state.safetensors",
)
ODD: Final = (None, -1, 2**40, 1e300, "x" * 300, [[]], {"a": 1})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "step_1"
    model = policy()
    tensors = optimisation(model).state()
    checkpoints.save(folder, model, {"env": "tabletop", "update_step": 1}, tensors=tensors, state={"loader": {}})
    return folder


def optimisation(model: Any) -> Optimisation:
    groups = [Group(module=model, learning_rate=1e-3, clip=1.0)]
    return Optimisation(model, groups, accelerator=accelerator(), schedule=constant)


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run" / "step_1")
    return tmp_path / "run" / "step_1"


def opened(folder: Path) -> str:
    """The code of the error that reading everything in a checkpoint ends with; nothing if it is read."""
    try:
        saved = checkpoints.load(folder)
        saved.player()
        tensors, _ = saved.train_state()
        optimisation(policy()).load(tensors)
    except VlaDataError as error:
        assert "\n" not in str(error)
        return error.code
    return ""


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _outside(path: Path) -> None:
    other = path.parents[2] / "elsewhere"
    path.rename(other)
    path.symlink_to(other)


def _deep(path: Path) -> None:
    path.write_bytes(b"[" * 100_000 + b"]" * 100_000)


def _sparse(path: Path) -> None:
    os.truncate(path, 1 << 40)


def _gone(path: Path) -> None:
    path.unlink()


CHANGES: Final[tuple[Callable[[Path], None], ...]] = (_fifo, _device, _outside, _deep, _sparse, _gone)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("change", CHANGES)
def test_odd_file_of_a_checkpoint_is_refused(folder: Path, name: str, change: Callable[[Path], None]) -> None:
    change(folder / name)
    assert opened(folder) in {"E001", "E003", "E105", "E107", "E131", "E133", "E141", "E301"}


def test_odd_values_in_metadata_are_refused_or_mean_nothing(folder: Path) -> None:
    for file in ("metadata.json", "tokenizer/processor_config.json"):
        whole = json.loads((folder / file).read_text())
        places = [(key,) for key in whole] + [("policy", key) for key in whole.get("policy", {})]
        for place in places:
            for odd in ODD:
                facts = json.loads(json.dumps(whole))
                inner = facts
                for key in place[:-1]:
                    inner = inner[key]
                inner[place[-1]] = odd
                (folder / file).write_text(json.dumps(facts))
                assert opened(folder) in {"", "E001", "E003", "E231", "E301"}, (place, odd)
        (folder / file).write_text(json.dumps(whole))
    assert opened(folder) == ""


@pytest.mark.parametrize(
    "form", [{"width": 4096, "layers": 256}, {"horizon": 4096, "dim": 4096}, {"words": ["w"] * 1_000_000}]
)
def test_form_that_would_take_all_memory_is_refused_before_it_does(folder: Path, form: dict[str, Any]) -> None:
    facts = json.loads((folder / "metadata.json").read_text())
    facts["policy"] |= form
    (folder / "metadata.json").write_text(json.dumps(facts))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert opened(folder) in {"E001", "E301"}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10  # in KiB


def test_damaged_parameters_are_refused_or_fit(folder: Path) -> None:
    file = folder / "params/model.safetensors"
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    draw = random.Random(0)
    for number in range(60):
        changed = bytearray(data)
        if number < 10:
            changed[:8] = struct.pack("<Q", draw.choice([0, length - 1, length + 1, 2**40, 2**63, 2**64 - 1]))
        elif number < 50:
            changed[draw.randrange(8, 8 + length)] ^= 1 << draw.randrange(8)
        else:
            changed = changed[: draw.randrange(len(changed))]
        file.write_bytes(changed)
        assert opened(folder) in {"", "E105", "E301"}


def test_state_of_another_optimiser_is_refused(folder: Path) -> None:
    model = policy(updates=1)
    for name, value in (
        ("optimizer/0/exp_avg", torch.zeros(3)),
        ("optimizer/x/y", torch.zeros(1)),
        ("a", torch.zeros(1)),
    ):
        state = {**optimisation(model).state(), name: value, "updates": torch.tensor(1)}
        if name == "a":
            del state["updates"]
        with pytest.raises(UsageError, match=r"E301 .*state of the optimiser"):
            optimisation(model).load(state)


def test_checkpoint_that_is_cut_while_it_is_there_is_an_error_and_no_end_of_the_process(folder: Path) -> None:
    stored = checkpoints.load(folder)
    os.truncate(folder / "params/model.safetensors", 100)
    assert stored.policy() is not None  # it was read, and nothing of it is in the file any more
    with pytest.raises(DataError, match="E105"):
        params.read(folder / "params")


CONFIG: Final = SFTConfig(dataset="x")


def begun(folder: Path) -> Run:
    return Run(folder, CONFIG, out=io.StringIO())


def test_what_is_linked_in_a_run_is_neither_written_nor_removed(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    victim = tmp_path / "victim"
    (victim / "params").mkdir(parents=True)
    (victim / "diary").write_text("no end of line")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in victim.rglob("*"))
    for name, target in (
        (METRICS, victim / "diary"),
        (NAME, victim / "diary"),
        ("step_1", victim),
        ("config.json", victim / "diary"),
    ):
        link = tmp_path / "run" / name
        kept = link.read_bytes() if link.is_file() else None
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with pytest.raises(UsageError, match="E131"):
            Run(tmp_path / "run", CONFIG, resume=True, out=io.StringIO())
        link.unlink()
        if kept is not None:
            link.write_bytes(kept)
    run = Run(tmp_path / "run", CONFIG, resume=True, out=io.StringIO())
    (tmp_path / "run" / METRICS).symlink_to(victim / "diary")  # and what comes later
    with pytest.raises(VlaDataError):
        run.log(1, {"loss": 1.0})
    (tmp_path / "run" / NAME).symlink_to(victim / "diary")
    with pytest.raises(DataError, match="E131"):
        Ledger(tmp_path / "run")
    (tmp_path / "run" / "step_1").symlink_to(victim)
    checkpoints.forget([tmp_path / "run" / "step_1"])
    assert not os.path.lexists(tmp_path / "run" / "step_1")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in victim.rglob("*")) == before
    assert (victim / "diary").read_text() == "no end of line"


@pytest.mark.parametrize("resume", [False, True])
def test_of_two_processes_at_one_run_the_second_is_told(tmp_path: Path, resume: bool) -> None:
    run = begun(tmp_path / "run")
    call = (
        "import sys; from pathlib import Path; from training_adapters.runs import Run\n"
        "from training_adapters.sft.config import SFTConfig\n"
        f"Run(Path(sys.argv[1]), SFTConfig(dataset='x'), resume={resume})"
    )
    done = subprocess.run(
        [sys.executable, "-c", call, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert LockedError.__name__ in done.stderr, done.stderr
    del run
    with pytest.raises(TargetExistsError):
        begun(tmp_path / "run")
    Run(tmp_path / "run", CONFIG, resume=True, out=io.StringIO())


@pytest.mark.parametrize(
    "line",
    [b"null\n", b"[]\n", b"{}\n", b'{"update": "x"}\n', b"\xff\n", b"[" * 50_000 + b"\n", b'{"update": null}\n'],
)
def test_odd_lines_of_a_run_are_refused(tmp_path: Path, line: bytes) -> None:
    run = begun(tmp_path / "run")
    (tmp_path / "run" / METRICS).write_bytes(line)
    with pytest.raises(UsageError, match="E301"):
        run.keep(1)
    (tmp_path / "run" / NAME).write_bytes(line)
    with pytest.raises(UsageError, match="E301"):
        Ledger(tmp_path / "run")


@pytest.mark.parametrize("odd", [*ODD, {"success": {}}, {"inputs": 3}])
def test_odd_results_in_a_run_are_refused(tmp_path: Path, odd: Any) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(odd))
    with pytest.raises(VlaDataError):
        Evaluation.read(path)
    if not isinstance(odd, dict) or odd == {"inputs": 3}:
        with pytest.raises(VlaDataError):
            Record(path, "sft").read()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(VlaDataError, match="E131"):
        Evaluation.read(path)


def test_of_what_is_in_the_way_only_a_fitted_tokenizer_is_replaced(tmp_path: Path) -> None:
    fitted = _fitted()
    fitted.save(tmp_path / "tokens")
    with pytest.raises(TargetExistsError, match="--replace"):
        fitted.save(tmp_path / "tokens")
    fitted.save(tmp_path / "tokens", replace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tokens"]

    (tmp_path / "tokens" / "model.safetensors").write_bytes(b"somebody's")
    with pytest.raises(TargetExistsError, match=r"E411 .*model\.safetensors.*not replaced"):
        fitted.save(tmp_path / "tokens", replace=True)
    (tmp_path / "tokens" / "model.safetensors").unlink()
    (tmp_path / "tokens" / FACTS).unlink()
    with pytest.raises(TargetExistsError, match=f"E411 .*no {FACTS}"):
        fitted.save(tmp_path / "tokens", replace=True)
    (tmp_path / "link").symlink_to(tmp_path / "tokens")
    with pytest.raises(TargetExistsError, match="E411"):
        fitted.save(tmp_path / "link", replace=True)
    assert (tmp_path / "tokens" / "tokenizer.json").is_file()


def _fitted() -> Fitted:
    return Fitted(
        options=FastFit(horizon=8),
        tokenizer=policy().tokenizer,
        statistics={},
        episodes=1,
        steps=1,
        chunks=1,
        left_out=(),
        findings=(),
        outside=0.0,
        tokens=(1.0, 1),
        error=0.0,
    )


def test_a_result_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    assert _result_file(tmp_path) == tmp_path / "eval.json"
    share = Share(1, 2)
    found = Evaluation(
        success=share, tasks={}, malformed=share, steps=1, env="x", starts_seed=0, seed=0, temperature=1.0
    )
    (tmp_path / "eval.json").write_text(json.dumps(found.to_json()))
    assert _result_file(tmp_path / "eval.json") == tmp_path / "eval.json"
    for name in ("config.json", "link"):
        (tmp_path / "config.json").write_text('{"seed": 0}')
        if name == "link":
            (tmp_path / name).symlink_to("nowhere")
        with pytest.raises(TargetExistsError, match="E411"):
            _result_file(tmp_path / name)
