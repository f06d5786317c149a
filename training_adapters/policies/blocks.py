"""A transformer's block with a cache of what it has seen."""

from __future__ import annotations

from torch import Tensor, cat, nn
from torch.nn import functional

Seen = tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention and a perceptron, each after a layer norm and added to its input.

    Args:
        width: of the vectors.
        heads: of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.look, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None, seen: Seen | None = None) -> tuple[Tensor, Seen]:
        """``(B, L, width)`` and the keys and values, which come after those of ``seen``.

        Args:
            x: ``(B, L, width)``.
            mask: ``(L, L)``, True where a row may look; None: everywhere.
            seen: of the positions before.
        """
        batch, length, width = x.shape
        split = self.look(self.before(x)).view(batch, length, 3, self._heads, width // self._heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        if seen is not None:
            key, value = cat([seen[0], key], dim=2), cat([seen[1], value], dim=2)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = x + self.merge(found.transpose(1, 2).reshape(batch, length, width))
        return x + self.think(self.between(x)), (key, value)
