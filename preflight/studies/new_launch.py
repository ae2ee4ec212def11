"""The files of a new launch, written from the templates, and what the pipeline reads in them before they exist."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from preflight.errors import BadInput, PreflightError
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.pipeline import check_plan
from preflight.plugin_manager import PluginManager
from preflight.report import Report
from preflight.request import Request, with_request
from preflight.rewriting import differing_fields, read_launch
from preflight.studies.fitting import Choice, Fitting
from preflight.studies.launch_files import found_in
from preflight.studies.template_files import Filled, filled, template_text
from preflight.units import ceil_div
from preflight.values import dataclass
from preflight.verdict import Answer

DEVICE_OF_TEMPLATES = "h100-sxm-80"
PER_NODE = 8
TRAINING = ("train.py", "--config", "training.yaml")
ACCELERATE = ("accelerate", "launch", "--config_file", "accelerate.yaml")


@dataclass(frozen=True)
class Wish:
    """What a new launch is asked for."""

    model: str
    device: str
    num_devices: int
    num_nodes: int
    method: str
    seq_len: int
    folder: str
    """Where the files go, an absolute path."""
    is_seq_len_said: bool = True
    launcher: str = "accelerate"

    @property
    def per_node(self) -> int:
        return ceil_div(self.num_devices, self.num_nodes)


def files_of(
    wish: Wish, choice: Choice, reasons: Mapping[str, str], with_job: bool
) -> dict[str, str]:
    """Return name -> text of every file of a launch; `reasons` of fields become the comments of their lines."""
    files = {}
    if wish.launcher == "accelerate":
        files["accelerate.yaml"] = _accelerate(wish, choice, reasons)
    elif choice.engine.startswith("zero"):
        files[f"{choice.engine}.json"] = template_text(f"deepspeed/{choice.engine}.json")
    files["training.yaml"] = _training(wish, choice, reasons)
    files["train.py"] = template_text("training/train.py")
    if wish.num_nodes == 1:
        files["launch.sh"] = _on_device(template_text("training/launch.sh"), wish)
    if with_job:
        files["job.sbatch"] = _job(wish)
    templates_own = " ".join((*ACCELERATE, *TRAINING))
    own = " ".join((*_launcher(wish), *TRAINING))
    return {name: text.replace(templates_own, own) for name, text in files.items()}


def _launcher(wish: Wish) -> tuple[str, ...]:
    """Return the launcher of one node."""
    if wish.launcher == "accelerate":
        return ACCELERATE
    return ("torchrun", "--standalone", "--nproc_per_node", str(wish.per_node))


def _accelerate(wish: Wish, choice: Choice, reasons: Mapping[str, str]) -> str:
    name = choice.engine
    if name == "fsdp2" and wish.method == "qlora":
        name = "fsdp2-qlora"
    values = {"num_processes": Filled(wish.num_devices), "num_machines": Filled(wish.num_nodes)}
    why = reasons.get("engine", "")
    if why:
        key = "zero_stage" if name.startswith("zero") else "distributed_type"
        engine = {"zero2": 2, "zero3": 3, "ddp": "MULTI_GPU", "single": "NO"}.get(name, "FSDP")
        values[key] = Filled(engine, why)
    if name == "hsdp":
        values["parallelism_config_dp_replicate_size"] = Filled(wish.num_nodes)
        values["parallelism_config_dp_shard_size"] = Filled(wish.per_node)
    text = template_text(f"accelerate/{name}.yaml")
    return filled(text.replace(f"{name}.yaml", "accelerate.yaml"), values)


def _training(wish: Wish, choice: Choice, reasons: Mapping[str, str]) -> str:
    said = "as asked" if wish.is_seq_len_said else "assumed: --seq-len says another"
    values = {
        "model_name_or_path": Filled(_model_from(wish)),
        "max_length": Filled(wish.seq_len, f"{said}; longer sequences are cut"),
    }
    for key, value, field in (
        ("per_device_train_batch_size", choice.micro_batch_size, "micro_batch_size"),
        ("gradient_accumulation_steps", choice.gradient_accumulation_steps, ""),
    ):
        values[key] = Filled(value, reasons.get(field or key, ""))
    why = reasons.get("activation_checkpointing", "")
    values["gradient_checkpointing"] = Filled(choice.checkpoints, why)
    text = filled(template_text(f"training/{wish.method}.yaml"), values)
    if choice.syncs_each_batch:
        why = reasons.get("accelerator_config", "")
        said = "{gradient_accumulation_kwargs: {sync_each_batch: true}}"
        text = text.replace("\ndtype:", f"\naccelerator_config: {said}  # {why}\ndtype:")
    if wish.launcher == "torchrun" and choice.engine.startswith("zero"):
        why = reasons.get("engine") or "as asked"
        text = text.replace("\ndtype:", f"\ndeepspeed: {choice.engine}.json  # {why}\ndtype:")
    return text


def _model_from(wish: Wish) -> str:
    """Return the model as the launch names it: a folder here is seen from the folder of the files."""
    if os.path.exists(wish.model):
        return os.path.relpath(os.path.abspath(wish.model), wish.folder)
    return wish.model


def _on_device(text: str, wish: Wish) -> str:
    return text.replace(DEVICE_OF_TEMPLATES, wish.device)


def _job(wish: Wish) -> str:
    name = "one-node" if wish.num_nodes == 1 else wish.launcher
    text = _on_device(template_text(f"slurm/{name}.sbatch"), wish)
    # training.yaml names DeepSpeed's file where there is one.
    text = text.replace(" --deepspeed zero3.json", "").replace("torchrun and DeepSpeed", "torchrun")
    text = text.replace(f"{name}.sbatch", "job.sbatch")
    for option, number in (("nodes", wish.num_nodes), ("gpus-per-node", wish.per_node)):
        text, count = re.subn(rf"(#SBATCH --{option}=)\d+", rf"\g<1>{number}", text)
        assert count == 1
    return text


def command_of(wish: Wish, files: Mapping[str, str], argv: tuple[str, ...]) -> LaunchCommand:
    """Return a launch of files that need not exist yet."""
    overlay = {os.path.join(wish.folder, name): text for name, text in files.items()}
    return LaunchCommand(argv, {}, wish.folder, overlay)


def read_choice(wish: Wish, choice: Choice, plugins: PluginManager) -> LaunchPlan:
    """Return the plan of a candidate, as its files are read."""
    plan = read_launch(command_of(wish, files_of(wish, choice, {}, False), _argv(wish)), plugins)
    assert plan is not None
    return with_request(plan, Request(device=wish.device, device_origin="--gpu"))


def _argv(wish: Wish) -> tuple[str, ...]:
    """Return the launch of one node; on several, the first is told who it is."""
    if wish.num_nodes == 1:
        return (*_launcher(wish), *TRAINING)
    if wish.launcher == "accelerate":
        return (*ACCELERATE, "--machine_rank", "0", "--main_process_ip", "node-1", *TRAINING)
    number = ("--nnodes", str(wish.num_nodes), "--nproc_per_node", str(wish.per_node))
    meeting = ("--rdzv_backend", "c10d", "--rdzv_endpoint", "node-1:29500")
    return ("torchrun", *number, *meeting, *TRAINING)


def read_back(
    wish: Wish, fitting: Fitting, files: Mapping[str, str], plugins: PluginManager
) -> Report:
    """Return the report of the finished files; raise unless each of their launches fits, and is the planned one."""
    report: Report | None = None
    for name, argv in _launches(wish, files):
        plan = read_launch(command_of(wish, files, argv), plugins)
        if plan is None:
            raise PreflightError(f"{name} cannot be read back: nothing was written")
        plan = with_request(plan, Request(device=wish.device, device_origin="--gpu"))
        report = check_plan(plan, plugins, Request())
        errors = [finding for finding in report.findings if finding.severity == "error"]
        if errors:
            first = errors[0]
            raise BadInput.one(first.message, first.where, first.fix, first.id)
        wanted = fitting.judged.plan
        differing = differing_fields(report.plan, wanted, wanted)
        if differing or report.verdict.answer is not Answer.FITS:
            what = f"differs in {', '.join(differing)}" if differing else "does not fit"
            raise PreflightError(f"{name}, read back, {what}: nothing was written")
    assert report is not None
    return report


def _launches(wish: Wish, files: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Return file and argv of each launch, as its text says it."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for name, text in files.items():
        if not name.endswith((".sh", ".sbatch")):
            continue
        if name == "job.sbatch" and wish.num_nodes > 1:
            found += [(name, argv) for argv in _launches_of_job(wish, name, text)]
            continue
        found += [(name, command.argv) for command in found_in(name, text)]
    assert found, "no file has a launch"
    return found


def _launches_of_job(wish: Wish, name: str, text: str) -> list[tuple[str, ...]]:
    """Return what each launch line of a job on several nodes starts, as its first node sees it."""
    from preflight.slurm.job_environment import JobPlace, job_environment
    from preflight.slurm.job_script import script_options
    from preflight.slurm.options import submit_options
    from preflight.slurm.script_reader import read_script

    options = submit_options((name,), {}, script_options(text, name), "sbatch")
    nodes = tuple(f"node-{number}" for number in range(1, wish.num_nodes + 1))
    place = JobPlace(nodes, wish.per_node, options.cpus_per_task or 1)
    env = job_environment(options, place, {}, wish.folder)
    reading = read_script(text, name, (), env, wish.folder, nodes)
    return [launch.argv for launch in reading.launches]
