"""Run by an interpreter that has stock lerobot: imports it once, and forks one judge after another from there.

Reads a line of JSON each from standard input, `Question` of `tests.stock_lerobot`, and answers with another. Each
judge is a process of its own without the five seconds of CPU time of importing PyTorch. Imports nothing of ours.
"""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy  # noqa: F401
import torch.utils.data  # noqa: F401

try:
    import lerobot.datasets.lerobot_dataset
except ImportError:  # 0.6 has moved it
    import lerobot.datasets  # noqa: F401


def perform(question: dict) -> None:
    """Run the judge in this process; ends it."""
    code = 1
    try:
        os.environ.update(question["environment"])
        sys.argv = [question["name"], *question["words"]]
        source = question["code"] or Path(question["name"]).read_text()
        exec(compile(source, question["name"], "exec"), {"__name__": "__main__", "__file__": question["name"]})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def answer(question: dict) -> dict:
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(question["input"].encode())
        given.seek(0)
        child = os.fork()
        if child == 0:
            for file, number in ((given, 0), (out, 1), (err, 2)):
                os.dup2(file.fileno(), number)
            perform(question)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return {"returncode": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin.buffer.raw:  # no buffer that a judge would inherit
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)
