"""What DDP, DeepSpeed, FSDP, pipelines and inference engines hold beside a rank's own share."""
