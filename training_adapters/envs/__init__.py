"""Environments with LeRobot's observation keys, and the chunks of actions that policies give them."""
