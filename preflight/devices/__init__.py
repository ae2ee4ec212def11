"""GPUs: what torch may have of a card, how fast it is, what it costs, and how long a step takes."""
