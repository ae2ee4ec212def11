"""trl: TRL's training commands, half the script's words and half accelerate's."""
