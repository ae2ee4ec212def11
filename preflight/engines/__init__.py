"""DDP, FSDP and DeepSpeed: from their settings to the fields of a plan."""
