"""What turns datasets into the batches, texts and losses of a trainer. One folder a trainer."""

from vla_data import former_names

former_names.install()
