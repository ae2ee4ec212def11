"""What a person, repository or site lets preflight do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from preflight.errors import Problem, raise_if_any
from preflight.remedy import Remedy
from preflight.values import dataclass
from preflight.verdict import Answer, margin_share_of


@dataclass(frozen=True)
class Policy:
    """Which verdicts refuse, which remedies may be applied, how much room must be left."""

    allow: frozenset[str] = field(default_factory=frozenset)
    """Remedies that change training and may be applied all the same."""
    forbid: frozenset[str] = field(default_factory=frozenset)
    """Remedies that are neither applied nor suggested."""
    refuse: frozenset[str] = frozenset({"does_not_fit"})
    """Verdicts that refuse a launch; `tight` may be added."""
    margin_share: float | None = None
    """Share of the device kept free before a launch counts as fitting; None = what its engine needs."""
    rewrite: bool = True
    """False = never rewrite: check and refuse only."""
    rewrite_jobs: bool = False
    """True = `preflight sbatch` submits a rewritten copy of a job script that does not fit, as with `--fix`."""
    ignore: frozenset[str] = field(default_factory=frozenset)
    """Ids of findings that are not shown."""
    refuse_findings: frozenset[str] = field(default_factory=frozenset)
    """Findings that refuse a launch like a verdict: ids, or `error` for every one of that severity."""

    def margin_of(self, engine: str) -> float:
        """Return the share of the device that is kept free under an engine."""
        return margin_share_of(engine) if self.margin_share is None else self.margin_share

    def may_apply(self, remedy: Remedy) -> bool:
        """Tell whether a remedy may be written into the launch; without rewriting, all are suggestions."""
        if not self.rewrite or remedy.id in self.forbid:
            return False
        return remedy.is_safe or remedy.id in self.allow

    def wants_remedy(self, answer: Answer) -> bool:
        """Tell whether a verdict is worth looking for remedies."""
        return answer in (Answer.DOES_NOT_FIT, Answer.TIGHT)

    def refuses(self, answer: Answer) -> bool:
        return answer.value in self.refuse

    def refuses_finding(self, id: str, severity: str) -> bool:
        """Tell whether a finding is one that nothing may be started with."""
        return id in self.refuse_findings or severity in self.refuse_findings


_KEYS = (
    "allow", "forbid", "refuse", "margin_share", "rewrite", "rewrite_jobs", "ignore", "refuse_findings",
)  # fmt: skip


def policy_from_dict(values: Mapping[str, Any], where: str = "") -> Policy:
    """Build a policy from the mapping of a policy file; raise BadInput naming every wrong key at once."""
    problems = [
        Problem(f"there is no policy key {key!r}", where, f"known keys: {', '.join(_KEYS)}")
        for key in values
        if key not in _KEYS
    ]
    arguments: dict[str, Any] = {}
    for key in ("allow", "forbid", "refuse", "ignore", "refuse_findings"):
        if key in values:
            if isinstance(values[key], list) and all(isinstance(v, str) for v in values[key]):
                arguments[key] = frozenset(values[key])
            else:
                problems.append(Problem(f"{key} must be a list of names", where))
    for name in arguments.get("refuse", ()):
        if name not in [answer.value for answer in Answer]:
            problems.append(Problem(f"refuse: there is no verdict {name!r}", where))
        elif name in ("unknown", "fits"):
            problems.append(Problem(f"refuse: {name} never refuses", where))
    for key in ("ignore", "refuse_findings"):
        for name in sorted(arguments.get(key, ())):
            if not _is_finding(name) and (key, name) != ("refuse_findings", "error"):
                problems.append(
                    Problem(f"{key}: there is no finding {name!r}", where, "an id such as PF203")
                )
    if "margin_share" in values:
        share = values["margin_share"]
        if isinstance(share, (int, float)) and not isinstance(share, bool) and 0 <= share < 1:
            arguments["margin_share"] = float(share)
        else:
            problems.append(Problem(f"margin_share must be from 0 to 1, not {share!r}", where))
    for key in ("rewrite", "rewrite_jobs"):
        if key in values:
            if isinstance(values[key], bool):
                arguments[key] = values[key]
            else:
                problems.append(Problem(f"{key} must be true or false", where))
    raise_if_any(problems)
    return Policy(**arguments)


def _is_finding(name: str) -> bool:
    # A plugin may have findings of its own, so the catalogue is not asked.
    return len(name) > 2 and name[:2].isupper() and name[2:].isdecimal()
