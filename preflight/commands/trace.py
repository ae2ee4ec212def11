"""`trace`: the exact allocations of a launch's model, beside the formulas."""

from __future__ import annotations

import os
import sys
from typing import Any

from preflight.commands.estimate import read_plan
from preflight.commands.options import (
    FITS,
    add_output_options,
    add_report_option,
    settings_from,
    split_command,
)
from preflight.commands.output import (
    print_json,
    print_lines,
    tell_left_alone,
    write_asked,
    write_page,
)
from preflight.commands.parser import Parser
from preflight.commands.progress import steps
from preflight.errors import BadInput
from preflight.formats.load import read_data_file
from preflight.formulas.layers.attention import with_default_attention
from preflight.formulas.precision import missing_inputs
from preflight.judge import estimate_memory
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.memory import MemoryEstimate
from preflight.model import ModelSpec
from preflight.models import lays_out
from preflight.models.folder import read_config
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.repository.settings import Repository, find_repository
from preflight.request import Request, versions_of, with_request
from preflight.rewriting import read_launch
from preflight.trace.client import run_trace
from preflight.trace.job import folder_of, job_of
from preflight.trace.result import TraceResult
from preflight.units import canonical_dtype

ABOUT = """\
Run two training steps of the real model by PyTorch on tensors without data, and show what
every phase allocates beside what the formulas say. Needs no GPU, no weights and no memory
of the model's size. A few layers of each kind are run; the rest is added up, exactly."""

EPILOG = """\
examples:
  preflight trace -- accelerate launch --config_file fsdp2.yaml train.py --max_length 4096
  preflight trace --plan plan.yaml --format json
  preflight trace --set loss=full_logits -- accelerate launch sft.py
  preflight trace --snapshot step.pickle -- accelerate launch sft.py

not traced, and said so: FSDP1 and DeepSpeed (they need real memory; --set engine=single),
torch.compile (--set torch_compile=false), parallelism other than data, offload, fp8, 8-bit
bases, encoders with decoders. The page trace.md of the documentation has the list.

exit: 0 traced; 2 bad input, or nothing that can be traced; 3 preflight failed
"""


def run(name: str, args: list[str]) -> int:
    """Trace one launch or plan; return the exit code."""
    declared = parser(name)
    has_plan = any(arg == "--plan" or arg.startswith("--plan=") for arg in args)
    own: list[str] = args
    argv: tuple[str, ...] = ()
    if not has_plan or "--" in args:
        own, argv = split_command(name, declared, args)
    options = declared.parse_args(own)
    if options.plan is not None and argv:
        raise BadInput.one("--plan and a command are two launches", fix="give one of them")
    # As `check` does for a command and `estimate` for a plan file: they find this trace by its plan.
    repository = find_repository(os.getcwd()) if argv else Repository()
    plugins = load_plugins(os.getcwd(), project_files=repository.hooks)
    tell_left_alone(*repository.left_alone, *plugins.left_alone)
    request = Request(options.device, settings_from(options.set), repository=repository)
    plan = with_request(_read(options.plan, argv, plugins, repository), request)
    unknown = _unknown_to_formulas(plan)
    model = unknown or plugins.first("preflight_describe_model", plan=plan)
    if model is None:
        raise BadInput.one("the launch names no model", fix="--set model_config=FILE")
    plan = with_default_attention(plan, model)
    folder = _own_folder(plan) if options.trust_remote_code else None
    job = job_of(plan, model, folder, options.full_depth)
    with steps("tracing") as doing:
        result = run_trace(job, not options.no_cache, doing)
    estimate = None
    if unknown is None and model.is_decoder_lm:
        estimate = estimate_memory(plan, model, None, plugins, missing_inputs(plan, model))
    device = plugins.first("preflight_describe_device", plan=plan)
    capacity = None if device is None else device.capacity_bytes
    if options.report is not None:
        from preflight.render.html_trace import trace_html

        write_page(options.report, trace_html(model, result, estimate, capacity))
    if options.snapshot is not None:
        import pickle

        from preflight.trace.snapshot import snapshot_of

        write_asked(
            options.snapshot, pickle.dumps(snapshot_of(result.timeline), protocol=4), "--snapshot"
        )
    if options.format == "json":
        print_json(as_dict(plan, model, result, estimate), sys.stdout)
        return FITS
    from preflight.render.page import page_for
    from preflight.render.trace import trace_lines

    page = page_for(sys.stdout, options.color)
    lines = trace_lines(model, result, estimate, page, options.verbose, capacity)
    print_lines(lines, sys.stdout)
    return FITS


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(name, ABOUT, f"preflight {name} [options] -- COMMAND", EPILOG)
    group = parser.add_argument_group("what is traced")
    group.add_argument("--plan", metavar="PLAN.yaml", help="a plan file in place of a command")
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a plan value that the files do not say, or another one to try",
    )
    group.add_argument(
        "--device",
        metavar="DEVICE",
        help="draw the page of `--report` against this device, named as for `check`",
    )
    group.add_argument(
        "--full-depth", action="store_true", help="run every layer instead of adding them up"
    )
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run the Python code in the model's folder, as the training script would",
    )
    group.add_argument("--no-cache", action="store_true", help="neither read nor keep a result")
    add_report_option(parser, "every phase beside the formulas")
    group.add_argument(
        "--snapshot",
        metavar="FILE.pickle",
        help="also write what is alive as a memory snapshot, for docs.pytorch.org/memory_viz",
    )
    add_output_options(parser)
    return parser


def _read(
    path: str | None, argv: tuple[str, ...], plugins: PluginManager, repository: Repository
) -> LaunchPlan:
    if path is not None:
        return read_plan(read_data_file(path))
    command = LaunchCommand(
        argv,
        dict(os.environ),
        os.getcwd(),
        declared_flags=repository.flags,
        versions=versions_of(repository),
    )
    plan = read_launch(command, plugins)
    if plan is None:
        raise BadInput.one(
            f"no reader knows this launcher: {' '.join(argv[:3])}",
            fix="`preflight trace --plan PLAN.yaml` takes a plan",
        )
    return plan


def _unknown_to_formulas(plan: LaunchPlan) -> ModelSpec | None:
    """Return a model that no formula knows, from its config alone; None for every other."""
    config = plan.model_config
    path = os.path.join(folder_of(plan), "config.json")
    if config is None and plan.model and os.path.isfile(path):
        config = read_config(path)
    if config is None or lays_out(config):
        return None
    dtype = config.get("dtype") or config.get("torch_dtype")
    return ModelSpec(
        name=plan.model or str(config.get("model_type")),
        config=config,
        model_type=str(config.get("model_type")),
        hidden_size=0,
        vocab_size=0,
        num_layers=0,
        units=(),
        config_dtype=canonical_dtype(dtype) if isinstance(dtype, str) else None,
        is_decoder_lm=False,
    )


def _own_folder(plan: LaunchPlan) -> str:
    folder = folder_of(plan)
    if not plan.model or not os.path.isfile(os.path.join(folder, "config.json")):
        raise BadInput.one(
            "--trust-remote-code needs a model folder: nothing is downloaded",
            fix="give the model as a path with its config.json and code",
        )
    return folder


def as_dict(
    plan: LaunchPlan, model: ModelSpec, result: TraceResult, estimate: MemoryEstimate | None
) -> dict[str, Any]:
    """Return the trace and the formulas as JSON shows them."""
    peaks = () if estimate is None else estimate.peaks
    formula = {peak.phase: peak.allocated_bytes for peak in peaks}
    values = result.to_dict()
    for entry, traced in zip(values["phases"], result.phases, strict=True):
        entry["formula_bytes"] = formula.get(traced.phase)
    return {
        "schema_version": 1,
        "plan": plan.to_dict(),
        "model": {"name": model.name, "num_params": model.num_params},
        "trace": {
            **values,
            "is_cached": result.is_cached,
            "peak_phase": result.peak.phase.value,
            "peak_bytes": result.peak.num_bytes,
        },
    }
