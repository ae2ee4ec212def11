"""Hooks for every launch of this site: start from memory_rule.py, check.py, remedy.py or reader.py beside."""

from preflight.finding import Finding
from preflight.hookspecs import hookimpl


@hookimpl
def preflight_findings(plan):
    if plan.num_nodes > 4:
        yield Finding(
            id="SITE1",
            name="large-job",
            severity="info",
            message=f"{plan.num_nodes} nodes: jobs of more than four need a reservation here",
            fix="the site's help desk",
        )
