"""What is done to batches before a network sees them, each with the way back for the actions that it predicts.

    transforms = (Normalize.of(mixture, "openpi.quantile"), StateDim(14), Prompt(indicator))
    loader = Loader(mixture, batch_size=32, transforms=transforms)
    loader.inverse(predicted)              # in the units of the dataset

They are paired as openpi pairs its input and output transforms: `BatchTransform.forward` and
`BatchTransform.inverse` of one object, and the way back goes through them in reverse.
"""

from vla_data.mixtures.transforms.base import BatchTransform, Chain, Form
from vla_data.mixtures.transforms.normalize import Normalize
from vla_data.mixtures.transforms.prompt import Prompt
from vla_data.mixtures.transforms.state_dim import StateDim

__all__ = ["BatchTransform", "Chain", "Form", "Normalize", "Prompt", "StateDim"]
