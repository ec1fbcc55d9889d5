"""A model that someone already has: read without running what it holds, flattened, checked."""
