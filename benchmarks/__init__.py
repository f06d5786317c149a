"""Side-by-side measurements of `vla_data` and the tools it replaces. See README.md."""
