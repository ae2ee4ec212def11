"""Python that is read and never run: syntax trees, scopes, names, files and what their expressions are worth."""
