"""Reinforcement learning from groups of rollouts that share a start: RIPT, by leave-one-out advantages.

The method is that of S. Tan et al., 2025, https://arxiv.org/abs/2505.17016, with the baseline of
https://arxiv.org/abs/2402.14740; ``docs/ript.md`` has the formulas and what other programs do differently.
"""
