"""Whether a dataset is what was published, and what its source has; damaged files get their bytes back."""
