"""Holding a bundle to what it promises: checks, an earlier bundle beside it, and reports for CI."""
