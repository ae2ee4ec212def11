"""What a repository says about its launches, and the launch files that it holds."""
