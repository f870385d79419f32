"""Latest prices and shared results, in Redis."""
