"""`preflight run`, and `check --here`, inside a Slurm job: the GPUs that the job really got, and whether the launch is the job's size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.launch import LaunchCommand
from preflight.node.this_node import leaves_node
from preflight.plugin_manager import PluginManager
from preflight.report import Report
from preflight.request import Request
from preflight.rewriting import read_launch
from preflight.slurm.allocation import ask_nodes, is_in_job, num_nodes, options_of_job
from preflight.slurm.inventory import Inventory
from preflight.slurm.job_findings import job_findings
from preflight.slurm.nodes import Candidates


def request_in_job(
    request: Request, command: LaunchCommand, plugins: PluginManager
) -> tuple[Request, tuple[str, ...]]:
    """Return the request with the smallest GPU of the job's nodes as its device, and what is to be noted.

    Only where the ranks start on other nodes too; the driver of this one is asked anyway.
    """
    if not is_in_job(command.env) or num_nodes(command.env) < 2:
        return request, ()
    plan = read_launch(command, plugins)
    if plan is None or not (plan.num_nodes > 1 or leaves_node(plan)):
        return request, ()
    allocation = ask_nodes(command.env)
    smallest = allocation.smallest
    if smallest is None:
        return request, ()
    where = f"driver of {smallest.node}, the smallest GPU of the job"
    asked = replace(request, device=smallest.words, device_origin=where)
    return asked, allocation.notes


def report_in_job(report: Report, env: Mapping[str, str], notes: tuple[str, ...]) -> Report:
    """Return a report with what the launch and the job around it do not agree on."""
    if not is_in_job(env):
        return report
    nothing = Candidates((), ()), Inventory((), {}, "")
    told = {finding.id for finding in report.findings}  # PF119 may come from the node, too
    findings = job_findings(report.plan, None, options_of_job(env), *nothing)
    more = [finding for finding in findings if finding.id not in told]
    return replace(report, findings=(*report.findings, *more), notes=(*report.notes, *notes))
