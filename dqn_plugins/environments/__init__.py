"""Environments as batches of transitions, and their failures by name."""
