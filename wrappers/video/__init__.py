"""What episodes look like: recorders, the writer of videos, and frames put together."""
