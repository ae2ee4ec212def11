"""A pre-flight check for training launches: read the configs, price every rank, act before spawn."""

from __future__ import annotations

__version__ = "0.1.0"
