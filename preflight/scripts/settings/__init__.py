"""What a script tells its trainer, its model and its engine, a kind of call each."""
