"""docs/findings.md: the catalogue of findings, in their order."""

from __future__ import annotations

from preflight.derive.target import Files, Say
from preflight.findings import AREAS, FindingKind, all_kinds

TITLES = {
    "launch": "PF1xx: the launcher, its command line and its files",
    "fsdp": "PF2xx: FSDP1 and FSDP2",
    "deepspeed": "PF3xx: DeepSpeed",
    "training": "PF4xx: precision, attention, quantization, PEFT, loss, optimizer",
    "node": "PF5xx: the machine, the network and the data",
}

PROOF_KINDS = {
    "refusal": "the library refuses: a test has it refuse, for real",
    "silent": "nothing is said: a test measures the effect, or reads what the library built",
    "node": "a fact of the machine or the device: a test has such a machine described",
    "reading": "what preflight itself can or cannot see",
}

SEVERITIES = ("error", "warning", "info")

HEAD = """\
# Findings

What `preflight check` can say about a launch beside its memory.
This page is made from the catalogue (`preflight/findings/`) by `python -m preflight.derive findings`; `preflight explain ID` prints one entry.

A finding of severity `error` means that a library will refuse, or that training will be wrong; `warning` that something is not as it looks; `info` that something is worth knowing.
An error is one in every reading of the launch: where a value that nobody said decides it, or a release that nobody named, or a flag that only looks like the trainer's, it is a warning that ends in that `(if ...)`.
Findings do not refuse a launch unless a policy says so: `refuse_findings: [error]`, or by id.

To silence one: `# preflight: ignore PF203` at the end of the line it points to (or alone on the line before), or `ignore: [PF203]` in a policy file.
"""


def page() -> str:
    """Return the whole page."""
    kinds = all_kinds()
    lines = [HEAD, "How each is proved:", ""]
    for name, text in PROOF_KINDS.items():
        count = sum(kind.proof_kind == name for kind in kinds.values())
        lines.append(f"- `{name}` ({count}): {text}")
    lines += ["", *_summary(kinds)]
    for digit, area in AREAS.items():
        own = {id: kind for id, kind in kinds.items() if id[2] == digit}
        if own:
            lines += ["", f"## {TITLES[area]}", "", *_table(own)]
            for id, kind in own.items():
                lines += ["", *_entry(id, kind)]
    return "\n".join(lines) + "\n"


def _summary(kinds: dict[str, FindingKind]) -> list[str]:
    """Return a table of the areas with the number of findings of each severity."""
    rows = [f"| area | ids | {' | '.join(SEVERITIES)} |", f"|---|---|{'--:|' * len(SEVERITIES)}"]
    for digit, area in AREAS.items():
        own = [kind.severity for id, kind in kinds.items() if id[2] == digit]
        title = TITLES[area]
        anchor = "".join(c for c in title.lower() if c.isalnum() or c in " -").replace(" ", "-")
        counts = " | ".join(str(own.count(severity)) for severity in SEVERITIES)
        if own:
            rows.append(f"| [{title.partition(': ')[2]}](#{anchor}) | PF{digit}xx | {counts} |")
    every = [kind.severity for kind in kinds.values()]
    total = " | ".join(str(every.count(severity)) for severity in SEVERITIES)
    return [*rows, f"| together | {len(every)} | {total} |"]


def _table(kinds: dict[str, FindingKind]) -> list[str]:
    rows = ["| id | name | severity | proved as |", "|---|---|---|---|"]
    for id, kind in kinds.items():
        rows.append(
            f"| [{id}](#{id.lower()}) | {kind.name} | {kind.severity} | {kind.proof_kind} |"
        )
    return rows


def _entry(id: str, kind: FindingKind) -> list[str]:
    lines = [f"### {id}", "", f"**{kind.name}** ({kind.severity})", ""]
    rows = [("When", kind.trigger), ("Effect", kind.effect), ("Fix", kind.fix)]
    if kind.versions:
        rows.append(("Versions", kind.versions))
    if kind.proof:
        rows.append(("Proved by", ", ".join(f"`{test}`" for test in kind.proof)))
    return lines + [f"- {label}: {text}" for label, text in rows]


def files(say: Say) -> Files:
    """Yield the page."""
    yield "docs/findings.md", page()
