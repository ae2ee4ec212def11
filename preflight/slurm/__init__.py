"""Slurm: what a submission asks for, which nodes may run it, and what its job script launches."""
