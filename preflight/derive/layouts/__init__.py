"""Model types as transformers builds them on the meta device: small configs, their parameters, and forms of config fields."""
