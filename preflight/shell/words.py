"""The words that say yes and no on a command line (accelerate's str_to_bool, after distutils.util.strtobool)."""

from __future__ import annotations

TRUE_WORDS = ("y", "yes", "t", "true", "on", "1")


FALSE_WORDS = ("n", "no", "f", "false", "off", "0")
