"""How launchers and trainers write things down: readers and text editors shared by `read_*` hooks."""
