"""What happens in environments, observed in one place for one and for many."""
