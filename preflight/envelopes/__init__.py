"""Files that carry a launch to other machines: what they start, on how many nodes, and on which GPUs."""
