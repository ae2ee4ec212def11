"""The releases that `make test` installs are the ones that the tables say they were made with."""

from __future__ import annotations

import re
from pathlib import Path

from preflight.versions.installed import KNOWN_VERSIONS

RELEASES = Path(__file__).parents[2] / ".ci" / "releases.txt"
PIN = re.compile(
    r'(?P<name>[A-Za-z0-9_-]+)(==|~=)(?P<release>[0-9.]+)(; python_version >= "3\.[0-9]+")?'
)
NOT_INSTALLED = {"torchtune", "torchtitan", "litgpt"}
"""Libraries whose tables come from an unpacked wheel (docs/upgrading.md)."""


def test_what_make_test_installs_is_what_was_read():
    lines = [line for line in RELEASES.read_text().splitlines() if not line.startswith("#")]
    pins = [PIN.fullmatch(line) for line in lines]
    assert all(pins), "a line names a library and its release"

    installed = {pin["name"]: pin["release"] for pin in pins if pin}

    read = {name: release for name, release in KNOWN_VERSIONS.items() if name not in NOT_INSTALLED}
    assert {name: installed.get(name) for name in read} == read
