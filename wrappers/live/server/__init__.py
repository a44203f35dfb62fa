"""The process that serves the page. It imports neither torch nor an environment."""
