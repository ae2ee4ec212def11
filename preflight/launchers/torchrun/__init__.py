"""torchrun and python -m torch.distributed.run."""
