"""Octo trains on what was prepared: its loader, its text processor and its ``scripts/finetune.py``, in small.

    cd octo; python octo_step.py RECORD MODEL [an argument of finetune.py]...

MODEL becomes a small random Octo in the form that `OctoModel.load_pretrained` reads, with a tokenizer of
characters in the place of T5's. RECORD gets the arrays of the batches that the script takes from its loader.
"""

from __future__ import annotations

import json
import pathlib
import runpy
import sys
from typing import Any

import numpy as np
from wandb_log import heard  # beside this script, whose folder Python puts first

RECORD, MODEL = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
WIDTH, TOKENS = 32, 16


def tokenizer(folder: pathlib.Path) -> None:
    """What T5's name stands for: a configuration of a small encoder, and characters as tokens."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config

    words = {"<pad>": 0, "<unk>": 1, **{chr(32 + i): 2 + i for i in range(96)}}
    own = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    names = ["input_ids", "attention_mask"]  # those of T5
    fast = PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", unk_token="<unk>", model_input_names=names
    )
    fast.save_pretrained(folder)
    T5Config(vocab_size=128, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=1, num_heads=4).save_pretrained(folder)


def write_model(folder: pathlib.Path, size: int) -> None:
    """A small random model, whose readout is of actions of that size."""
    from octo.data.utils.text_processing import HFTokenizer
    from octo.model.components.action_heads import DiffusionActionHead
    from octo.model.components.tokenizers import ImageTokenizer, LanguageTokenizer
    from octo.model.components.vit_encoders import SmallStem16
    from octo.model.octo_model import OctoModel
    from octo.utils.spec import ModuleSpec

    text = folder.parent / "t5"
    tokenizer(text)
    cameras = {
        name: ModuleSpec.create(
            ImageTokenizer,
            obs_stack_keys=[f"image_{name}"],
            task_stack_keys=[f"image_{name}"],
            encoder=ModuleSpec.create(SmallStem16, features=(32, 32, 32, 32), num_features=WIDTH),
        )
        for name in ("primary", "wrist")
    }
    language = ModuleSpec.create(LanguageTokenizer, encoder=str(text), finetune_encoder=False)
    head = ModuleSpec.create(
        DiffusionActionHead,
        readout_key="readout_action",
        use_map=False,
        action_horizon=4,
        action_dim=size,
        n_diffusion_samples=1,
        dropout_rate=0.0,
    )
    kwargs = {"max_length": TOKENS, "padding": "max_length", "truncation": True, "return_tensors": "np"}
    processor = ModuleSpec.create(
        HFTokenizer, tokenizer_name=str(text), encode_with_model=False, tokenizer_kwargs=kwargs
    )
    config: dict[str, Any] = {
        "model": {
            "observation_tokenizers": cameras,
            "task_tokenizers": {"language": language},
            "heads": {"action": head},
            "readouts": {"action": 1},
            "token_embedding_size": WIDTH,
            "transformer_kwargs": {
                "num_layers": 1,
                "mlp_dim": 64,
                "num_attention_heads": 4,
                "dropout_rate": 0.0,
                "attention_dropout_rate": 0.0,
                "add_position_embedding": False,
            },
            "max_horizon": 4,
            "repeat_task_tokens": True,
        },
        "optimizer": {"frozen_keys": ["*hf_model*"]},
        "text_processor": processor,
        "seed": 0,
    }
    picture = {"image_primary": (1, 1, 256, 256, 3), "image_wrist": (1, 1, 128, 128, 3)}
    observation: dict[str, Any] = {name: np.zeros(shape, np.uint8) for name, shape in picture.items()}
    observation["timestep_pad_mask"] = np.ones((1, 1), bool)
    observation["timestep"] = np.zeros((1, 1), np.int32)
    there = {name: np.ones((1, 1), bool) for name in picture}
    observation["pad_mask_dict"] = there
    task = {
        "language_instruction": dict(ModuleSpec.instantiate(processor)().encode(["x"])),
        "pad_mask_dict": {"language_instruction": np.ones(1, bool)},
    }
    batch = {"observation": observation, "task": task, "action": np.zeros((1, 1, 4, size), np.float32)}
    statistics = {"action": {"mean": np.zeros(size), "std": np.ones(size)}}
    model = OctoModel.from_config(config, batch, None, dataset_statistics=statistics)
    model.save_pretrained(0, str(folder))


def main() -> None:
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")
    write_model(MODEL, int(sys.argv[3]))
    from octo.utils import train_utils

    seen: list[dict[str, Any]] = []
    process = train_utils.process_text

    def watched(batch: Any, processor: Any) -> Any:
        seen.append(
            {
                "action": batch["action"],
                "action_pad_mask": batch["action_pad_mask"],
                "proprio": batch["observation"]["proprio"],
                "text": batch["task"]["language_instruction"].astype("U"),
                "pad_mask": batch["observation"]["timestep_pad_mask"],
                **{f"image_{name}": batch["observation"][f"image_{name}"] for name in ("primary", "wrist")},
            }
        )
        return process(batch, processor)

    train_utils.process_text = watched
    logged = heard()
    sys.argv = ["scripts/finetune.py", *sys.argv[4:]]
    try:
        runpy.run_path("scripts/finetune.py", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    np.savez(RECORD, **seen[-1])
    losses = [float(info["training/loss"]) for info in logged if "training/loss" in info]
    print("JUDGE " + json.dumps({"losses": losses, "batches": len(seen)}))


if __name__ == "__main__":
    main()
