"""What Trainer and TRL make of arguments."""
