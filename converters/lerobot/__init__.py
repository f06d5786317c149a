"""LeRobot datasets: v3.0 is written, v3.0, v2.1 and v2.0 are read."""
