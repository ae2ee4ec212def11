"""Which tests stay together when several processes run them (`pytest -n 2`), and which start first."""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

TOGETHER = {
    "tests/proofs/": "launches compared",
    "tests/slurm/": "slurm",
    "tests/findings/test_deepspeed_effects.py": "effects",
    "tests/findings/test_fsdp_effects.py": "effects",
    "tests/embedded/": "the port that launchers take unasked",
    "tests/docs/test_tutorial.py": "the port that launchers take unasked",
    "tests/docs/test_examples.py": "the port that launchers take unasked",
    "tests/node/test_node_refusals.py": "the port that launchers take unasked",
}
"""Start of a path -> what its tests share: a cluster, results, a port. Other tests stay with those of their file."""

LONGEST = ("tests/slurm/", "tests/proofs/")
"""What takes minutes starts first: nobody waits for it at the end, and what it waits for is others' time to compute."""


class Scheduling(LoadScopeScheduling):
    """Gives a process the tests of one file, or of what shares something, at a time."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        shared = (name for start, name in TOGETHER.items() if path.startswith(start))
        return next(shared, path)


def rank(path: str) -> int:
    """Return the place of a test file in the order of starting."""
    starts = (number for number, start in enumerate(LONGEST) if path.startswith(start))
    return next(starts, len(LONGEST))
