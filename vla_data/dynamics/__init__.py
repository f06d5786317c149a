"""Whether the states move as the actions say."""
