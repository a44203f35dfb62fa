"""A page that shows an agent while it learns, and a few buttons to meddle with it."""
