"""Options and fixtures that several test folders share."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core_install import install_core
from fork_client import HOST, RANKS_ALONE
from hypothesis import settings
from ranks import ForkHost
from two_users import Machine, missing

from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins

# The same examples every time: a build fails for what changed, not for what was drawn.
# `pytest --hypothesis-profile=search` draws new ones.
# No deadline: a machine may be busy with something else, which says nothing of the code.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("search", derandomize=False, deadline=None)
settings.load_profile("steady")


LOUD = "not run! "
"""How the reason of a skip begins that is said once more at the end: title, colon, what is missing."""
EXTENSIONS = Path(sys.prefix) / "torch_extensions"
"""Where DeepSpeed's operators are built for the tests: in a folder that two checkouts shared, each built
over the other's."""
YOUNG_S = 10
"""A lock younger than this may be of a build that has not started its compiler yet."""


def pytest_configure() -> None:
    # Threads of the tests' small tensors wait for each other more than they compute.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TORCH_EXTENSIONS_DIR"] = str(EXTENSIONS)
    # What this machine's own runs correct is no part of a test.
    os.environ["PREFLIGHT_RECORDS"] = os.path.join(os.sep, "nonexistent", "preflight")
    remove_dead_locks()


def remove_dead_locks() -> None:
    """Remove the lock of a build that was killed: every later run would wait for it without end.

    The lock of a build that runs stays, for whoever waits for it would load half a library.
    """
    for lock in EXTENSIONS.glob("*/lock"):
        with contextlib.suppress(FileNotFoundError):
            age = time.time() - lock.stat().st_mtime
            if age > YOUNG_S and not is_worked_in(lock.parent):
                lock.unlink()


def is_worked_in(folder: Path) -> bool:
    """Tell whether a process stands in the folder, as torch's compiler does in that of its build."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == folder.resolve():
                return True
    return False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-expected",
        action="store_true",
        help="rewrite every examples/*/expected.txt with what its command prints now",
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share tests out by file, not one by one: what a file or a cluster sets up is set up once."""
    from scheduling import Scheduling

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Start what takes longest first, where several processes share the tests."""
    if hasattr(config, "workerinput"):
        from scheduling import rank

        items.sort(key=lambda item: rank(item.nodeid))


def pytest_collection_finish() -> None:
    """Leave thousands of collected tests out of every later garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> PluginManager:
    """The built-in plugins, as a launch has them from a folder of its own."""
    return load_plugins(str(tmp_path_factory.mktemp("here")))


@pytest.fixture(scope="session")
def core_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with our wheel and its core dependencies only."""
    return install_core(tmp_path_factory.mktemp("core"))


@pytest.fixture
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Two plain users and root, in a folder of their own; a loud gap where pytest is not root."""
    if reason := missing():
        pytest.skip(f"{LOUD}THE TESTS WITH TWO USERS DID NOT RUN: {reason}")
    # pytest's own folders are closed to others.
    root = Path(tempfile.mkdtemp(prefix="preflight-users-"))
    yield Machine(root)
    shutil.rmtree(root)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, where everybody looks, what did not run for want of a program."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    said = {why[2].removeprefix("Skipped: ") for why in skipped if isinstance(why, (tuple, list))}
    for text in sorted(text for text in said if text.startswith(LOUD)):
        title, _, reason = text.removeprefix(LOUD).partition(": ")
        terminalreporter.section(title, sep="!", red=True, bold=True)
        terminalreporter.write_line(reason)


@pytest.fixture(scope="session")
def ranks() -> Iterator[ForkHost]:
    """What forks the ranks of a script from a process that has the libraries."""
    host = ForkHost()
    yield host
    host.stop()


@pytest.fixture
def forked(ranks: ForkHost) -> dict[str, str]:
    """Variables of a launch whose ranks need not import their libraries; every kind of engine is started once without."""
    return {HOST: ranks.address, RANKS_ALONE: "1"}
