"""What layers, towers, adapters and optimizers keep and need, from traces, and formulas beside those."""
