"""Rollouts of RL runs: one file an episode."""
