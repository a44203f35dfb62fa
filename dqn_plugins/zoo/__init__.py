"""RL Zoo's own trainer with this package's algorithms registered."""
