"""TorchRL: a replay buffer of a dataset, in its schema for vision-language-action models."""
