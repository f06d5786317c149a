"""RECAP: advantage-conditioned policies. The data side: which text a frame is trained with.

indicator = Indicator(target="openpi-pi05", dropout=0.3, seed=7)
indicator.prompts(tasks, labels, episodes=episodes, frames=frames, epoch=2)
"""

from training_adapters.recap.indicator import Indicator, model_text, state_bins

__all__ = ["Indicator", "model_text", "state_bins"]
