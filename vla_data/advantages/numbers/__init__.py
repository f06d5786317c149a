"""Returns, advantages, value targets and labels on flat NumPy arrays; nothing here reads or writes a file."""
