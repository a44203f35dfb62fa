"""The algorithms, one file each, and the loop that they share."""
