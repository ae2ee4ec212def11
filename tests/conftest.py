"""Options and fixtures that several test folders share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from core_install import install_core
from hypothesis import settings

# The same examples every time: a build fails for what changed, not for what was drawn.
# `pytest --hypothesis-profile=search` draws new ones.
# No deadline: a machine may be busy with something else, which says nothing of the code.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile("steady")


EXTENSIONS = Path(sys.prefix) / "torch_extensions"
"""Where DeepSpeed's operators are built for the tests: in a folder that two checkouts shared, each built
over the other's, and the lock of a build that was killed keeps every later run waiting without end."""


def pytest_configure() -> None:
    os.environ["TORCH_EXTENSIONS_DIR"] = str(EXTENSIONS)
    # What this machine's own runs correct is no part of a test.
    os.environ["PREFLIGHT_RECORDS"] = os.path.join(os.sep, "nonexistent", "preflight")
    for lock in EXTENSIONS.glob("*/lock"):
        lock.unlink()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="rewrite every examples/*/expected.txt with what its command prints now",
    )


@pytest.fixture(scope="session")
def core_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with our wheel and its core dependencies only."""
    return install_core(tmp_path_factory.mktemp("core"))
