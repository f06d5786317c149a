"""What a run or a dataset looks like, for a person."""
