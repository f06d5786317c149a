"""Dataset definitions, one folder each."""
