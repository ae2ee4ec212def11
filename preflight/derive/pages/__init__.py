"""Pages of docs/ and their pictures."""
