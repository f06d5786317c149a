"""What LeRobot's RECAP branch reads."""
