"""What OpenTau reads: its statistics, its advantages, and how it opens a dataset."""
