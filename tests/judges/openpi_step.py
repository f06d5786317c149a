"""openpi trains on what was prepared: its loader and its ``scripts/train.py``, in small; JSON on standard output.

    cd openpi; python openpi_step.py OUT NAME RECORD [an argument of openpi's command line]...

``OUT/openpi_train.py`` is what a user starts, and the arguments are what a user types. The image encoder, whose
size openpi's configuration has no field for, is made its smallest, and weights, which are downloaded otherwise,
stay random; PaliGemma's tokenizer, likewise, is a small one. RECORD gets what `compute_loss` was given.
"""

from __future__ import annotations

import json
import os
import pathlib
import runpy
import sys
from typing import Any

import numpy as np
from wandb_log import heard  # beside this script, whose folder Python puts first

OUT, NAME, RECORD = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])


def tokenizer(folder: pathlib.Path) -> pathlib.Path:
    """A vocabulary of bytes, where openpi looks for PaliGemma's."""
    import sentencepiece

    file = folder / "big_vision/paligemma_tokenizer.model"
    if not file.exists():
        file.parent.mkdir(parents=True)
        with open(file, "wb") as out:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(["Task: pick up the bowl, State: 1 2 3; Action: "] * 10),
                model_writer=out,
                vocab_size=300,
                byte_fallback=True,
                hard_vocab_limit=False,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                minloglevel=2,
            )
    return file


def watched(seen: list[dict[str, Any]]) -> None:
    """Keep what the model's loss is computed from."""
    import functools

    import jax
    from openpi.models import pi0, siglip
    from openpi.training import weight_loaders

    weight_loaders.CheckpointWeightLoader.load = weight_loaders.NoOpWeightLoader.load
    whole = siglip.Module

    @functools.wraps(whole)
    def small(*args: Any, **options: Any) -> Any:
        return whole(*args, **{**options, "variant": "mu/16"})

    pi0._siglip.Module = small
    loss = pi0.Pi0.compute_loss

    def compute_loss(self: Any, rng: Any, observation: Any, actions: Any, *, train: bool = False) -> Any:
        inputs = {
            "actions": actions,
            "state": observation.state,
            "prompt": observation.tokenized_prompt,
            "prompt_mask": observation.tokenized_prompt_mask,
            **{f"image.{name}": value for name, value in observation.images.items()},
            **{f"mask.{name}": value for name, value in observation.image_masks.items()},
        }
        jax.debug.callback(lambda **arrays: seen.append({k: np.asarray(v) for k, v in arrays.items()}), **inputs)
        return loss(self, rng, observation, actions, train=train)

    pi0.Pi0.compute_loss = compute_loss


def main() -> None:
    model = tokenizer(pathlib.Path(os.environ["OPENPI_DATA_HOME"]))
    seen: list[dict[str, Any]] = []
    watched(seen)
    logged = heard()
    program = str(OUT / "openpi_train.py")
    sys.argv = [program, *sys.argv[4:]]
    runpy.run_path(program, run_name="__main__")
    import jax
    import sentencepiece

    jax.effects_barrier()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))
    first = seen[0]
    prompts = [
        pieces.decode(ids[mask].tolist()) for ids, mask in zip(first["prompt"], first["prompt_mask"], strict=True)
    ]
    np.savez(RECORD, **first)
    losses = [float(info["loss"]) for info in logged if "loss" in info]
    print("JUDGE " + json.dumps({"prompts": prompts, "steps": len(seen), "losses": losses}))


if __name__ == "__main__":
    main()
