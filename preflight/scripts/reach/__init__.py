"""What of a script and of the files that it imports a launch may reach."""
