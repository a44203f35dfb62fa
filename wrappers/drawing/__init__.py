"""What is drawn beside and over frames: panels, letters, captions and Q-values."""
