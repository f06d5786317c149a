"""Readers that judge datasets: each opens one as a trainer's loader does, and says what that trainer would see.

A gate is a module with ``read_back(folder) -> facts``; ``facts["lines"]`` is for a person. It raises `VerifyError`
for what the loader could not open or would silently get wrong.
"""
