"""What is measured of each episode, as a table: every column has a definition, and none predicts a policy."""
