"""PF5xx: the machine: host memory, network, disk, packages and data."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

KINDS: dict[str, FindingKind] = {}
