"""Supervised data from solved PPO rollouts, with the element spec of RL4VLA's SFT datasets."""
