"""Comparison runs: algorithms × environments × seeds, in parallel, resumable, reported honestly."""
