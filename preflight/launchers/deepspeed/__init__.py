"""The deepspeed command."""
