"""The public names of the package, the trainer callback among them, which needs transformers."""

from __future__ import annotations

import preflight


def test_every_public_name_is_there():
    assert all(getattr(preflight, name) is not None for name in preflight.__all__)
