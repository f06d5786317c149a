"""What RDT2 needs beside its code: shards, their instructions, and its configuration of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from converters.rdt2.sink import NORMALIZER, config
from vla_data.preparing import Extras, Prepared

FORMAT: Final = "rdt2"
NEEDS_GATE: Final = True
CONFIG: Final = "rdt2.yaml"
_KNOWN: Final = ("cam_right_wrist", "cam_left_wrist", "gripper_opening", "jpeg_quality")


def sink_options(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """See `vla_data.preparing.job.Preparation`; pictures are JPEG."""
    return {"name": name, **{key: value for key, value in given.items() if key in _KNOWN}}


def place(name: str) -> str:
    """See `vla_data.preparing.job.Preparation`."""
    return name


def extras(prepared: Prepared) -> Extras:
    """See `vla_data.preparing.job.Preparation`."""
    return Extras(
        files={CONFIG: config(prepared.name, prepared.folder, Path(NORMALIZER))},
        command=[
            "cd RDT2",
            "PYTHONPATH=. accelerate launch rdt/main.py --deepspeed=scripts/zero1.json "
            "--config_path=./configs/rdt/post_train.yaml "
            "--pretrained_vision_language_model_name_or_path=robotics-diffusion-transformer/RDT2-VQ "
            f"--output_dir={prepared.word('train')} --webdataset_config={prepared.word(CONFIG)} "
            "--train_batch_size=64 --sample_batch_size=32 --max_train_steps=1000000 --checkpointing_period=5000 "
            "--sample_period=1000 --lr_scheduler=constant --learning_rate=1e-4 --mixed_precision=bf16 "
            "--dataloader_num_workers=8 --image_aug --report_to=tensorboard",
        ],
        facts=[
            f"normalizer_path is RDT2's own {NORMALIZER}: download it into RDT2's folder, or change the path",
            "RDT2-VQ trains on action_token.npy, which RDT2's tokenizer makes; these shards are for RDT2-FM",
            "RDT2 shuffles 8,192 samples before it starts, with repetition where there are fewer",
        ],
    )
