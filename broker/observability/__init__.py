"""Metrics, logs and health: a leaf that every room may use and that knows none of them."""
