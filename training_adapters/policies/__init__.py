"""Small reference policies in PyTorch, under a million parameters; one noun a file."""
