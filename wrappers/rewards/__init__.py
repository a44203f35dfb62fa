"""What episodes are worth: their rewards, statistics and logs."""
