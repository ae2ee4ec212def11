"""accelerate launch: its command line, config file and environment."""
