"""Which release of each library a launch will have: from the environment that it names, or what its repository pins."""
