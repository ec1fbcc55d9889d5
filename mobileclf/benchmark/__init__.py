"""Latency and memory of models on this machine."""

# Of timing, at most, when nobody says.
SECONDS = 60.0
