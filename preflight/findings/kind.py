"""One entry of the catalogue of findings."""

from __future__ import annotations

from preflight.values import dataclass


@dataclass(frozen=True)
class FindingKind:
    """What an id means. The text is the manual page: full sentences, sources in brackets."""

    name: str
    """Kebab-case, for people: `ignored-key`."""
    severity: str
    """The usual one: `error` (a library refuses, or training is wrong), `warning`, `info`."""
    proof_kind: str
    """`refusal` (a library stops with its own error), `silent` (it goes on, and the effect is
    measured), `node` (a fact of this machine), `reading` (what preflight itself can or cannot see)."""
    trigger: str
    """Exactly when it fires."""
    effect: str
    """The library's own error with its place in the source, or what happens without a word."""
    fix: str
    versions: str = ""
    """The library versions that behave so, where it is not all of them."""
    proof: tuple[str, ...] = ()
    """The tests that prove the effect: `tests/hooks/test_x.py::test_y`."""

    def page(self, id: str) -> str:
        """Return the manual page."""
        rows = [
            ("When", self.trigger),
            ("Effect", self.effect),
            ("Fix", self.fix),
            ("Versions", self.versions),
            ("Ignore", f'`# preflight: ignore {id}` on the line, or ignore = ["{id}"] in a policy'),
            ("Proved", ", ".join(self.proof)),
        ]
        lines = [f"{id} {self.name} ({self.severity})", ""]
        lines += [f"{label.ljust(9)} {text}" for label, text in rows if text]
        return "\n".join(lines)
