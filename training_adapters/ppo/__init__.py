"""Proximal policy optimisation over chunks of actions, for policies that write them as tokens.

The formulas are those of J. Schulman et al., 2017, https://arxiv.org/abs/1707.06347, and of generalised advantage
estimation, 2016, https://arxiv.org/abs/1506.02438, with a chunk as the action; ``docs/training.md`` has them.
"""
