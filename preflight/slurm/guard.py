"""A submission judged: its launches found, each priced on every node that the job may get.

    answer = judge_submission(submission, env, asked_in(submission.cwd))

What a person, `preflight sbatch`, the cli_filter or an audit does about the answer is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace

from preflight.device import DeviceSpec
from preflight.errors import BadInput, PreflightError
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy, policy_from_dict
from preflight.repository.settings import Repository, find_repository
from preflight.request import Request, with_request, with_said_versions
from preflight.rewriting import read_launch
from preflight.slurm.array_tasks import array_tasks, of_tasks
from preflight.slurm.inventory import Inventory, NoInventory, read_inventory
from preflight.slurm.job_environment import JobPlace, components_of, place_of
from preflight.slurm.job_script import MOST_BYTES, Submission
from preflight.slurm.judged_launch import JudgedLaunch
from preflight.slurm.judgement import LaunchJudgement, judge_launch
from preflight.slurm.nodes import Candidates, Fit, candidates, candidates_with, site_map
from preflight.slurm.reading import read_job_script
from preflight.slurm.scripted_launch import ScriptLaunch, ScriptReading, unset_variables
from preflight.values import dataclass
from preflight.verdict import Answer as Verdict


@dataclass(frozen=True)
class Asked:
    """What the person who submits says beside the job, and what the folder's repository says."""

    plugins: PluginManager
    policy: Policy = field(default_factory=Policy)
    settings: Mapping[str, object] = field(default_factory=dict)
    repository: Repository = field(default_factory=Repository)
    inventory: Inventory | None = None
    """The cluster's nodes, where somebody has asked for them already."""
    device: DeviceSpec | None = None
    """The GPU of every node, where a person names it and no cluster is asked."""

    @property
    def left_alone(self) -> tuple[str, ...]:
        """Files with settings or hooks that are not obeyed."""
        return (*self.repository.left_alone, *self.plugins.left_alone)

    def request(self) -> Request:
        return Request(None, dict(self.settings), self.policy, repository=self.repository)


@dataclass(frozen=True)
class Answer:
    """All that was found out about one submission."""

    submission: Submission
    reading: ScriptReading
    launches: tuple[JudgedLaunch, ...] = ()
    place: JobPlace | None = None
    problem: str = ""
    """Why nothing is judged, where that is so."""

    @property
    def refused(self) -> tuple[JudgedLaunch, ...]:
        """Launches that are not to be submitted."""
        return tuple(one for one in self.launches if one.is_refused)

    @property
    def mixed(self) -> tuple[JudgedLaunch, ...]:
        """Launches that fit on some candidates, and surely not on others."""
        return tuple(
            one for one in self.launches if one.judgement and one.judgement.judged.is_mixed
        )

    @property
    def verdict(self) -> str:
        """One word for a stamp or a table: fits, may_fit, does_not_fit, unknown, none."""
        if not self.launches:
            return "none" if not self.problem and self.reading.how == "static" else "unknown"
        fits = [one.fit for one in self.launches]
        for fit, word in ((Fit.DOES_NOT_FIT, "does_not_fit"), (Fit.MAYBE, "may_fit")):
            if fit in fits:
                return word
        known = [fit for fit in fits if fit is Fit.FITS]
        return "fits" if known and len(known) == len(_that_matter(self.launches)) else "unknown"


def _that_matter(launches: tuple[JudgedLaunch, ...]) -> list[JudgedLaunch]:
    """Return the launches without what only looks like one: `python prepare.py` beside a training."""
    known = [one for one in launches if one.fit is not Fit.UNKNOWN]
    plain = [
        one
        for one in launches
        if one.task is None and (one.judgement is None or one.judgement.plan.launcher == "python")
    ]
    return [one for one in launches if one in known or one not in plain] or list(launches)


def asked_in(
    folder: str, policy: Policy | None = None, settings: Mapping[str, object] | None = None
) -> Asked:
    """Return what the repository of a folder says to the one who submits from it, under a policy that beats its own.

    Imports code that the caller trusts (preflight/trust.py). Not for the jobs of others.
    """
    repository = find_repository(folder)
    if policy is None:
        policy = policy_from_dict(repository.policy) if repository.policy else Policy()
    plugins = load_plugins(folder, project_files=repository.hooks)
    return Asked(plugins, policy, dict(settings or {}), repository)


def asked_by_site(folder: str) -> Asked:
    """Return what the settings of a folder say that the caller trusts, without any of its code: for a guard of a site."""
    repository = find_repository(folder)
    policy = policy_from_dict(repository.policy) if repository.policy else Policy()
    return Asked(load_plugins(), policy, repository=repository)


def asked_of_nobody() -> Asked:
    """Return what holds for the jobs of others, whose folders have no say in what this process does."""
    return Asked(load_plugins())


def judge_submission(submission: Submission, env: Mapping[str, str], asked: Asked) -> Answer:
    """Find and judge every launch of a submission; raise BadInput for wrong settings of ours."""
    parts = submission.options.components
    if len(submission.text) > MOST_BYTES:
        # The stamp is of the whole, so that the controller takes it; the answer is that there is none.
        wrong = f"the script has {len(submission.text):,} bytes, and no more than {MOST_BYTES:,} are read"
        return Answer(submission, ScriptReading("nothing", reasons=(wrong,)), problem=wrong)
    inventory: Inventory | None
    try:
        if asked.device is not None:
            inventory = Inventory((), {}, "--device")
            found = [candidates_with(asked.device, part) for part in parts]
        else:
            inventory = asked.inventory or read_inventory()
            site = site_map(env)
            found = [candidates(part, inventory, site, submission.cwd) for part in parts]
        problem = ""
    except NoInventory as error:
        inventory, found, problem = None, [], f"Slurm does not say what nodes there are: {error}"
    place = place_of(submission.options, found[0] if found else None)
    reading = read_job_script(submission, env, place)
    if inventory is None:
        launches = tuple(JudgedLaunch(launch) for launch in reading.launches)
        return Answer(submission, reading, launches, place, problem)

    def judged_of(reading: ScriptReading) -> tuple[JudgedLaunch, ...]:
        return tuple(
            _judged(submission, reading, launch, component, found[component], inventory, asked)
            for launch in reading.launches
            for component in components_of(launch.through, len(parts))
        )

    launches = judged_of(reading)
    tasks = array_tasks(submission.options.array or "")
    if len(tasks) > 1 and launches:
        launches = of_tasks(
            launches, tasks, lambda task: judged_of(read_job_script(submission, env, place, task))
        )
    return Answer(submission, reading, launches, place)


def _judged(
    submission: Submission,
    reading: ScriptReading,
    launch: ScriptLaunch,
    component: int,
    found: Candidates,
    inventory: Inventory,
    asked: Asked,
) -> JudgedLaunch:
    one = JudgedLaunch(launch, component, found, reading.files)
    plugins = asked.plugins
    plugins.next_answer()
    try:
        plan = plan_of(launch, reading.files, plugins, asked)
    except BadInput as error:
        return replace(one, problem=_only_the_job_knows(launch, error) or said_of(error))
    if plan is None:
        return replace(one, problem="no reader knows this launcher")
    options = submission.options.components[component]
    judgement = judge_launch(plan, options, found, inventory, plugins, asked.policy, launch.through)
    problem = ""
    if not found.groups:
        problem = "no node that the job may get has a GPU that it asks for"
        if not options.wants_gpus:
            problem = "the job asks for no GPU"
    elif judgement.fit is Fit.UNKNOWN:
        problem = _not_known(judgement, found)
    one = replace(one, judgement=judgement, problem=problem)
    refused_by = [
        f.id for f in judgement.findings if asked.policy.refuses_finding(f.id, f.severity)
    ]
    if one.is_tight and asked.policy.refuses(Verdict.TIGHT):
        refused_by.append("tight")
    return replace(one, refused_by=tuple(refused_by))


def _only_the_job_knows(launch: ScriptLaunch, error: BadInput) -> str:
    """Return what of a launch has to be filled in by the running job before anybody can judge it."""
    said = " ".join(problem.message for problem in error.problems)
    missing = [source for source in launch.unknown if source in said or repr(source)[1:-1] in said]
    missing += [launch.dropped[p.where] for p in error.problems if p.where in launch.dropped]
    missing += unset_variables(launch.argv, launch.dropped, error.problems)
    return f"{missing[0]} is known only when the job runs" if missing else ""


def said_of(error: PreflightError) -> str:
    """Return why a launch cannot be judged, without what is only worth knowing beside it."""
    if not isinstance(error, BadInput):
        return " ".join(str(error).split())
    return "; ".join(each.message for each in error.problems if each.severity == "error")


def _not_known(judgement: LaunchJudgement, found: Candidates) -> str:
    if all(group.memory is None for group in found.groups):
        return f"how much memory its GPUs have is not known: {found.groups[0].words}"
    for judged in judgement.by_device.values():
        if judged.verdict.reason:
            return judged.verdict.reason
    return "what decides its memory is not known"


def command_of(launch: ScriptLaunch, files: Mapping[str, str], asked: Asked) -> LaunchCommand:
    """Return a launch line as a command, with the texts that its script writes in place of files."""
    flags = asked.repository.flags
    command = LaunchCommand(launch.argv, launch.env, launch.cwd, dict(files), flags)
    return with_said_versions(command, asked.request())


def plan_of(
    launch: ScriptLaunch, files: Mapping[str, str], plugins: PluginManager, asked: Asked
) -> LaunchPlan | None:
    """Return the plan of a launch line, with what its wrappers hide noted; None where no reader knows it."""
    command = command_of(launch, files, asked)
    plan = None
    if launch.through:
        try:
            plan = read_launch(replace(command, argv=(*launch.through, *launch.argv)), plugins)
        except BadInput:
            plan = None  # options of the wrapper that nobody knows; the launch itself is known
    if plan is None:
        plan = read_launch(command, plugins)
    return None if plan is None else with_request(plan, asked.request())
