"""Questions beside one launch: sizing, what-if, a new launch, measured runs, a repository."""
