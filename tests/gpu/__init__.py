"""Short trainings on one GPU whose peaks `preflight validate` compares with its estimates."""
