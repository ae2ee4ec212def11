"""Keys, arguments, defaults and releases of libraries and frameworks."""
