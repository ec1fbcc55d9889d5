"""Training: from pictures to a fitted network, on features or on pixels."""
