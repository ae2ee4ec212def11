"""The arguments that transformers' and TRL's parsers know, how people spell them, and their defaults by release."""
