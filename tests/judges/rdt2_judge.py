"""What RDT2's own dataset and collator make of shards, and steps of its expert, as JSON on standard output.

    python rdt2_judge.py RDT2_REPO CONFIG

Augmentations, which are off, are not imported. The expert (`RDTRunner`) is small and random; what it attends to,
which is the cache of a pretrained vision-language model, is random numbers of that shape.
"""

from __future__ import annotations

import json
import sys
import types
from typing import Any

import torch
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


def trained() -> dict[str, Any]:
    """A step as ``rdt/train.py`` takes it, on the actions as its normalizer scales them."""
    from models.normalizer import LinearNormalizer, SingleFieldLinearNormalizer
    from models.rdt_runner import RDTRunner

    torch.manual_seed(0)
    scale, offset = torch.linspace(0.5, 2, 20), torch.linspace(-0.1, 0.1, 20)
    facts = {name: torch.zeros(20) for name in ("min", "max", "mean", "std")}
    normalizer = LinearNormalizer()
    normalizer["action"] = SingleFieldLinearNormalizer.create_manual(scale, offset, facts)
    model = {
        "act_adaptor": "mlp3x_silu",
        "state_adaptor": "mlp3x_silu",
        "noise_scheduler": {"num_inference_timesteps": 5},
        "rdt": {
            "hidden_size": 64,
            "depth": 2,
            "num_heads": 4,
            "num_kv_heads": 2,
            "num_register_tokens": 4,
            "norm_eps": 1e-5,
            "multiple_of": 32,
            "ffn_dim_multiplier": None,
            "use_flash_attn": True,
        },
    }
    runner = RDTRunner(
        action_dim=20,
        pred_horizon=24,
        config=model,
        act_pos_emb_config=[("action", 24), ("register", 4)],
        state_dim=20,
        dtype=torch.float32,
    )
    optimizer = torch.optim.AdamW(runner.parameters(), lr=1e-3)
    cache = [(torch.randn(4, 2, 7, 16), torch.randn(4, 2, 7, 16)) for _ in range(2)]
    losses = []
    for _ in range(3):
        actions = normalizer["action"].normalize(batch["actions"]).float()
        torch.manual_seed(1)
        loss = runner(
            lang_kv_cache=cache,
            lang_attn_mask=torch.ones(4, 7, dtype=torch.bool),
            state_tokens=batch["states"].float(),
            action_gt=actions,
        )
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return {
        "losses": losses,
        "given": actions.detach().tolist(),
        "scale": scale.tolist(),
        "offset": offset.tolist(),
    }


print(
    "JUDGE "
    + json.dumps({**told, **trained(), "actions": batch["actions"].tolist(), "type": str(batch["actions"].dtype)})
)
