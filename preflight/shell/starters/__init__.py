"""Programs that start others, whose words are peeled off, and the part of a command that is the launcher's."""
