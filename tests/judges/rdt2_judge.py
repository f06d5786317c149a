"""What RDT2's own dataset and collator make of shards, as JSON on standard output.

    python rdt2_judge.py RDT2_REPO CONFIG

Augmentations, which are off, are not imported.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import yaml

sys.modules["data.image_corrupt"] = corrupt = types.ModuleType("data.image_corrupt")
corrupt.image_corrupt = lambda image: image  # type: ignore[attr-defined]
sys.path.insert(0, sys.argv[1])
from rdt.dataset import collate_fn, get_instructions_and_blended_train_dataset  # noqa: E402


class Processor:
    def apply_chat_template(self, messages: Any, **_: Any) -> str:
        return str(messages[0]["content"][1]["text"])

    def __call__(self, text: Any, images: Any, **_: Any) -> Any:
        return {"text": text, "sizes": [one[0].size for one in images]}


with open(sys.argv[2]) as file:
    instructions, dataset = get_instructions_and_blended_train_dataset(yaml.safe_load(file))
samples = iter(dataset)
batch = collate_fn([next(samples) for _ in range(4)], Processor(), instructions, False, 20)
told = batch["vision_language_model_inputs"]
print("JUDGE " + json.dumps({**told, "actions": batch["actions"].tolist(), "type": str(batch["actions"].dtype)}))
