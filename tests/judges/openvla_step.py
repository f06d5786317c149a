"""OpenVLA trains on what was prepared: its RLDS loader, action tokens, collator and loss; JSON on standard output.

    cd openvla; python openvla_step.py OUT NAME RECORD

The steps are those of ``vla-scripts/finetune.py``, which itself needs a GPU; the model is OpenVLA's class, small
and random, with a vocabulary of characters in the place of Llama's. RECORD gets what the loader gave and what the
model was given.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

OUT, NAME, RECORD = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
BATCH = 4


def tokenizer(folder: Path) -> Any:
    """Llama's tokenizer with characters: ASCII, then 256 rare ones for the bins of actions, as in Llama."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import LlamaTokenizerFast

    ascii = ["\u2581", "\n", *map(chr, range(33, 127))]
    words = ["<unk>", "<s>", "</s>", *ascii, *(chr(0x4E00 + i) for i in range(256))]
    own = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>"))
    own.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    own.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    own.save(str(folder / "tokenizer.json"))
    made = LlamaTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    made.add_special_tokens({"pad_token": "<PAD>"})
    made.model_max_length = 2048
    return made


def model(words: Any) -> Any:
    from prismatic.extern.hf.configuration_prismatic import OpenVLAConfig
    from prismatic.extern.hf.modeling_prismatic import OpenVLAForActionPrediction

    config = OpenVLAConfig(
        vision_backbone_id="dinosiglip-vit-so-224px",
        llm_backbone_id="llama2-7b-pure",
        arch_specifier="no-align+fused-gelu-mlp",
        text_config={
            "vocab_size": len(words) + 64 - len(words) % 64,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        pad_token_id=words.pad_token_id,
        norm_stats={},
    )
    config.timm_model_ids = ["vit_tiny_patch16_224", "vit_tiny_patch16_224"]
    return OpenVLAForActionPrediction(config)


def main() -> None:
    import torch
    from prismatic.extern.hf.processing_prismatic import PrismaticImageProcessor
    from prismatic.models.backbones.llm.prompting import PurePromptBuilder
    from prismatic.util.data_utils import PaddedCollatorForActionPrediction
    from prismatic.vla.action_tokenizer import ActionTokenizer
    from prismatic.vla.datasets import RLDSBatchTransform, RLDSDataset
    from torch.utils.data import DataLoader

    torch.manual_seed(0)
    runpy.run_path(str(OUT / "openvla_finetune.py"), run_name="tables")  # the entries of the two tables
    with tempfile.TemporaryDirectory() as folder:
        words = tokenizer(Path(folder))
    vla = model(words)
    images = PrismaticImageProcessor(
        use_fused_vision_backbone=True,
        image_resize_strategy="resize-naive",
        input_sizes=[(3, 224, 224)] * 2,
        interpolations=["bicubic"] * 2,
        means=[(0.5, 0.5, 0.5)] * 2,
        stds=[(0.5, 0.5, 0.5)] * 2,
    )
    bins = ActionTokenizer(words)
    transform = RLDSBatchTransform(
        bins, words, image_transform=images.apply_transform, prompt_builder_fn=PurePromptBuilder
    )
    given: list[Any] = []

    def watched(step: Any) -> Any:
        given.append(step)
        return transform(step)

    dataset = RLDSDataset(
        OUT, NAME, watched, resize_resolution=(224, 224), shuffle_buffer_size=100, image_aug=False
    )
    collator = PaddedCollatorForActionPrediction(words.model_max_length, words.pad_token_id, padding_side="right")
    batch = next(iter(DataLoader(dataset, batch_size=BATCH, sampler=None, collate_fn=collator, num_workers=0)))
    optimizer = torch.optim.AdamW(vla.parameters(), lr=5e-4)
    before = [weight.detach().clone() for weight in vla.parameters()]
    vla.train()
    names = ("input_ids", "attention_mask", "pixel_values", "labels")
    loss = vla(**{name: batch[name] for name in names}).loss
    loss.backward()
    optimizer.step()
    changed = sum(not torch.equal(old, new) for old, new in zip(before, vla.parameters(), strict=True))
    tokens = [row[row > bins.action_token_begin_idx] for row in batch["labels"].numpy()]
    prompts = [
        words.decode(ids[(labels == -100) & mask], skip_special_tokens=True)
        for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True)
    ]
    steps = given[:BATCH]
    np.savez(
        RECORD,
        action=np.stack([step["action"][0] for step in steps]),
        image=np.stack([step["observation"]["image_primary"][0] for step in steps]),
        decoded=np.stack([bins.decode_token_ids_to_actions(row) for row in tokens]),
        pixels=batch["pixel_values"].numpy(),
    )
    told = {"loss": loss.item(), "changed": changed, "prompts": prompts}
    told["statistics"] = {
        key: np.asarray(value).tolist() for key, value in dataset.dataset_statistics[NAME]["action"].items()
    }
    print("JUDGE " + json.dumps(told))


if __name__ == "__main__":
    main()
