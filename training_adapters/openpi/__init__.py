"""What openpi reads: its statistics, its advantages, and how it opens a dataset."""
