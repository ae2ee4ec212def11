"""python: a script or module that Python starts directly."""
