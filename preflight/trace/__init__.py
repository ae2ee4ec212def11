"""Exact allocations of a model: one training step run by PyTorch itself, on tensors without data."""
