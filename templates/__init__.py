"""Files to copy out: launch configs that fit, Slurm guards, plugin skeletons."""
