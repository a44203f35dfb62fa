"""What is shown of a comparison: a table, curves, videos and one page that holds them."""
