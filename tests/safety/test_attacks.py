"""The attack corpus and honest files: what is refused with which code, and that nothing runs or is opened."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converters.rollouts.source import PpoRolloutSource
from tests.attacks import ATTACKS
from tests.paths import TESTS
from vla_data.core import EpisodeRef
from vla_data.errors import CODES, DataError

PICKLES = TESTS / "data/pickles"
EXPECTED = json.loads((PICKLES / "expected.json").read_text())

# Reads hostile files in one process under an audit hook; prints a JSON line for each. The limits are those of
# the promise: 2 s and 512 MB for any file.
JUDGE = r"""
import json, re, sys, time
from pathlib import Path
from converters.rollouts.source import PpoRolloutSource
from vla_data.core import EpisodeRef
from vla_data.errors import DataError
import converters.rollouts.images, PIL.PngImagePlugin, encodings.cp437, encodings.latin_1, encodings.idna
import numpy as np
from vla_data.media import images
images.decode(images.encode(np.zeros((4, 4, 3), np.uint8), "png"))  # Pillow imports its plugins at first use
folder = Path(sys.argv[1])
source = PpoRolloutSource(root=folder)
events = []
def watch(event, args):
    if event in ("import", "open", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect",
                 "socket.__new__", "pickle.find_class", "compile", "exec", "ctypes.dlopen", "os.remove",
                 "os.rename", "os.mkdir"):
        events.append((event, str(args[0])[:200]))
re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
sys.addaudithook(watch)
for line in sys.stdin:
    name = line.strip()
    events.clear()
    start = time.process_time()  # of this process: a busy machine is no defect
    try:
        source.read(EpisodeRef(name, 0))
        code, message = "", ""
    except DataError as error:
        code, message = error.code, error.message
    took = time.process_time() - start
    # The folder, and from there on name by name, which is how links that come late are not followed.
    own = {str(folder.resolve()), *Path(name).parts}
    seen = [e for e in events if not (e[0] == "open" and e[1] in own)]
    # Not ru_maxrss: a child starts with what its parent held at exec.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    print(json.dumps({"name": name, "code": code, "message": message, "seconds": took, "events": seen,
                      "peak_mb": peak}), flush=True)
"""


def judge(folder: Path, names: list[str]) -> dict[str, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, str(folder)],
        input="".join(f"{name}\n" for name in names),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, object]], list[Path]]:
    root = tmp_path_factory.mktemp("attacks")
    names, canaries = {}, []
    for attack in ATTACKS:
        folder = root / attack.name
        folder.mkdir()
        canary = root / f"{attack.name}.canary"
        canaries.append(canary)
        names[attack.name] = attack.build(folder, canary).relative_to(root).as_posix()
    rows = judge(root, list(names.values()))
    return {name: rows[path] for name, path in names.items()}, canaries


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"row{attack.row}-{attack.name}")
def test_attack_is_refused_with_its_code(attack, verdicts) -> None:
    row = verdicts[0][attack.name]
    assert row["code"] in attack.codes
    assert "\n" not in row["message"]
    assert row["events"] == []


def test_no_canary_is_touched(verdicts) -> None:
    assert [canary.name for canary in verdicts[1] if canary.exists()] == []


def test_every_attack_stays_within_the_limits_of_time_and_memory(verdicts) -> None:
    rows = verdicts[0].values()
    assert [row["name"] for row in rows if row["seconds"] > 2.0] == []
    assert max(row["peak_mb"] for row in rows) < 512


def test_the_audit_hook_can_see_an_execution(tmp_path: Path) -> None:
    """The proof above can fail: plain NumPy on the first attack does touch its canary."""
    attack, canary = ATTACKS[0], tmp_path / "canary"
    path = attack.build(tmp_path, canary)
    loader = (
        "import sys, numpy as np; f = np.load(sys.argv[1], allow_pickle=True); hasattr(f, 'files') and f['arr_0']"
    )
    subprocess.run([sys.executable, "-c", loader, str(path)], capture_output=True, timeout=60)
    assert canary.exists()


def test_reading_never_goes_on_after_an_unlisted_class() -> None:
    assert {"E101", "E103", "E104", "E105", "E106", "E107", "E108"} <= CODES.keys()


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_files_of_every_numpy_and_pillow_read_the_same(name: str) -> None:
    want = EXPECTED[name]
    source = PpoRolloutSource(root=PICKLES)
    if want["protocol"] == 5 and want["variant"] == "planner":
        # np.save never writes protocol 5; its arrays need opcodes that no collector's file has.
        with pytest.raises(DataError) as refused:
            source.read(EpisodeRef(name, 0))
        assert refused.value.code in ("E101", "E103")
        return
    episode = source.read(EpisodeRef(name, 0))
    frames = (*episode.frames["observation.images.primary"].items,)
    if episode.final:
        frames += episode.final["observation.images.primary"].items
    assert want["T"] == len(episode)
    assert want["n_images"] == len(frames)
    assert want["instruction"] == episode.task
    np.testing.assert_array_equal(np.asarray(want["action"], np.float32), episode.arrays["action"])
    assert want["success"] == episode.arrays["info.success"].tolist()
    if want["sha256_of"] == "jpeg":
        data = b"".join(bytes(item) for item in frames)
    else:
        from vla_data.media import images

        data = b"".join(
            (item if isinstance(item, np.ndarray) else images.decode(item)).tobytes() for item in frames
        )
    assert want["sha256"] == hashlib.sha256(data).hexdigest()
