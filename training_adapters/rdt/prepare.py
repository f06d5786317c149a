"""What RDT needs beside its code: its HDF5 files, entries of its configuration, a program that puts them there.

RDT (thu-ml/RoboticsDiffusionTransformer, deb71d8) reads ``configs/*.json`` of the folder that it is started in,
and its dataset is a class that every user writes anew (``data/hdf5_vla_dataset.py``). The program of ours makes a
folder that has links to all of RDT's, but configurations with the entries of this dataset, takes
`training_adapters.rdt.Hdf5VlaDataset` for that class, and runs RDT's own ``main.py`` there; nothing of RDT is
edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from converters.rdt import config
from vla_data.preparing import Extras, Prepared

FORMAT: Final = "rdt"
NEEDS_GATE: Final = True


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`; ``given`` may have the options of RDT's sink."""
    return {**given, "name": name}


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    program = _PROGRAM.format(
        dataset=repr(str(prepared.folder)),
        run=repr(str(prepared.out / "rdt_run")),
        own=(config.DATASETS, config.WEIGHTS),
    )
    model = "robotics-diffusion-transformer/rdt-1b"
    return Extras(
        files={"rdt_finetune.py": program},
        command=[
            "cd RoboticsDiffusionTransformer",
            f"deepspeed {prepared.word('rdt_finetune.py')} --deepspeed=./configs/zero2.json "
            f"--pretrained_model_name_or_path={model} "
            "--pretrained_text_encoder_name_or_path=google/t5-v1_1-xxl "
            "--pretrained_vision_encoder_name_or_path=google/siglip-so400m-patch14-384 "
            f"--output_dir={prepared.word('train')} --train_batch_size=32 --sample_batch_size=64 "
            "--max_train_steps=200000 --checkpointing_period=1000 --sample_period=500 --lr_scheduler=constant "
            "--learning_rate=1e-4 --mixed_precision=bf16 --dataloader_num_workers=8 --image_aug "
            "--dataset_type=finetune --state_noise_snr=40 --load_from_hdf5 --report_to=tensorboard",
        ],
        facts=[
            "the environment of RDT needs vla-data with the extra hdf5: rdt_finetune.py reads the files with it",
            f"{config.STAT}, {config.FREQUENCY} and {config.CAMERAS} get an entry beside RDT's own; "
            f"{config.DATASETS} and {config.WEIGHTS} have this dataset alone",
        ],
    )


_PROGRAM: Final = '''"""RDT on one dataset: configuration and dataset class, then RDT's main.py. Made by vla-data.

Start it in RDT's folder. RUN, below, gets links to what is there, and configurations of its own.
"""

import functools
import json
import os
import runpy
import sys
from pathlib import Path

from training_adapters.rdt import Hdf5VlaDataset

DATASET = Path({dataset})
RUN = Path({run})
OWN = {own!r}


def put(path, make):
    """Make something under another name first: several processes may do this at once."""
    beside = path.with_name(f"{{path.name}}.{{os.getpid()}}")
    make(beside)
    os.replace(beside, path)


def prepare(rdt):
    """The folder in which RDT runs."""
    (RUN / "configs").mkdir(parents=True, exist_ok=True)
    for entry in sorted(rdt.iterdir()):
        if entry.name not in ("configs", ".git"):
            put(RUN / entry.name, functools.partial(os.symlink, entry))
    for entry in sorted((rdt / "configs").iterdir()):
        if not (DATASET / "configs" / entry.name).exists():
            put(RUN / "configs" / entry.name, functools.partial(os.symlink, entry))
    for entry in sorted((DATASET / "configs").iterdir()):
        content = json.loads(entry.read_text())
        theirs = rdt / "configs" / entry.name
        if entry.name not in OWN and theirs.exists():
            content = {{**json.loads(theirs.read_text()), **content}}
        text = json.dumps(content, indent=4)
        put(RUN / "configs" / entry.name, lambda path, text=text: path.write_text(text))


def main():
    """Run RDT's main.py."""
    prepare(Path.cwd())
    os.chdir(RUN)
    sys.path.insert(0, str(RUN))
    import data.hdf5_vla_dataset

    data.hdf5_vla_dataset.HDF5VLADataset = functools.partial(Hdf5VlaDataset, DATASET)
    sys.argv[0] = "main.py"
    runpy.run_path("main.py", run_name="__main__")


if __name__ == "__main__":
    main()
'''
