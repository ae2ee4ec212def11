"""What programs that a script asks would print: `grep`, `sed`, `awk`, `nvidia-smi` and their kin."""
