"""A few layers added up against every layer run, byte by byte: `python -m preflight.derive.costs.compare`.

One model of every type in the registry at its full depth, every family of the formulas that the
registry has no model of, and on request every causal language model that transformers can build.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preflight.derive.layouts.small_models import small_config
from preflight.derive.layouts.small_sizes import SMALL_MODELS
from preflight.errors import BadInput
from preflight.models.registry import all_models
from preflight.trace.job import TraceJob
from preflight.values import dataclass

DEEP = 24
"""Layers of a family that the registry has no model of."""
CUT = 16
CUT_TYPES = frozenset({"qwen3_next", "qwen3_5", "qwen3_5_moe"})
"""Without a GPU kernel linear attention is hundreds of small products a layer: the first layers, of all kinds."""
LORA = {
    "kind": "lora", "rank": 8, "alpha": 16, "dropout": 0.0, "targets": "all-linear",
    "modules_to_save": None,
}  # fmt: skip
NO_ALL_LINEAR = frozenset({"llama4", "llama4_text", "phimoe"})
"""PEFT wraps their routers, which return a tuple, and cannot run them: attention alone has adapters."""
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": LORA, "trainable_dtype": "fp32"},
    "full, fsdp2": {
        "engine": "fsdp2", "shard_degree": 8, "trainable_dtype": "fp32", "mixed": True,
    },
}  # fmt: skip
USUAL = ("full", "lora")


@dataclass(frozen=True)
class Case:
    """One model to trace both ways."""

    name: str
    config: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        """The model_type; with that of the text model where it is another's."""
        own = str(self.config.get("model_type"))
        text = (self.config.get("text_config") or {}).get("model_type", own)
        return own if str(text).startswith(own) else f"{own}/{text}"


@dataclass(frozen=True)
class Compared:
    """What one model, method and checkpointing gave."""

    name: str
    model_type: str
    method: str
    checkpointing: bool
    num_layers: int = 0
    num_traced_layers: int = 0
    num_parts: int = 0
    bytes_apart: int = 0
    """The largest difference in any part: at its beginning, peak or end, or of one operation at the peak."""
    where: str = ""
    seconds: float = 0.0
    problem: str = ""
    """Why it was not compared."""


def registry_cases(every: bool) -> list[Case]:
    """Return registry models, one of a type unless every one is wanted; then families that have none."""
    found: dict[str, Case] = {}
    for entry in all_models():
        case = Case(entry.id, entry.config)
        if case.model_type in CUT_TYPES:
            case = Case(f"{entry.id} [:{CUT}]", _with_layers(entry.config, CUT))
        found.setdefault(entry.id if every else case.model_type, case)
    types = {name for case in found.values() for name in case.model_type.split("/")}
    for model_type in SMALL_MODELS:
        if model_type not in types:
            deep = _with_layers(small_config(model_type), DEEP)
            found[model_type] = Case(f"small {model_type}", deep)
    return list(found.values())


def _with_layers(config: Mapping[str, Any], num_layers: int) -> dict[str, Any]:
    """Return the config with another depth; what it says of each layer by itself is left to the family."""
    if "text_config" in config:
        return {**config, "text_config": _with_layers(config["text_config"], num_layers)}
    name = "n_layer" if "n_layer" in config else "num_hidden_layers"
    return {k: v for k, v in config.items() if k != "layer_types"} | {name: num_layers}


def transformers_cases() -> list[Case]:
    """Return every causal language model that transformers has, in the sizes its config has by default."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return [
        Case(f"default {name}", {"model_type": name})
        for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        if name in CONFIG_MAPPING
    ]


def compare(case: Case, method: str, checkpointing: bool, both: bool = True) -> Compared:
    """Trace one model shallow and deep; only shallow, to see whether it can be traced, unless `both`."""
    import time

    from preflight.trace.run import trace

    job = TraceJob(
        config=case.config, micro_batch_size=2, seq_len=256, optimizer="adamw_torch",
        has_groups=True, clips=True, checkpointing=checkpointing, **METHODS[method],
    )  # fmt: skip
    if job.adapter is not None and case.model_type in NO_ALL_LINEAR:
        job = replace(job, adapter={**LORA, "targets": ["q_proj", "k_proj", "v_proj", "o_proj"]})
    compared = Compared(case.name, case.model_type, method, checkpointing)
    started = time.monotonic()
    try:
        added_up = trace(job)
        seconds = time.monotonic() - started
        whole = trace(replace(job, full_depth=True)) if both else added_up
    except BadInput as error:
        return replace(compared, problem=error.problems[0].message)
    except Exception as error:  # a table of what works shows what does not, whatever it raised
        return replace(compared, problem=f"{type(error).__name__}: {error}".splitlines()[0])
    apart, where = bytes_apart(added_up.levels, whole.levels)
    return replace(
        compared,
        num_layers=added_up.depth.num_layers,
        num_traced_layers=len(added_up.depth.kept),
        num_parts=len(whole.levels),
        bytes_apart=apart,
        where=where,
        seconds=seconds,
    )


def bytes_apart(some: Sequence[Any], others: Sequence[Any]) -> tuple[int, str]:
    """Return the largest difference between two lists of levels, and the part that it is in."""
    worst, where = 0, ""
    names = ([level.part for level in some], [level.part for level in others])
    if names[0] != names[1]:
        odd = next((a for a, b in zip(*names, strict=False) if a != b), names[0][-1])
        return max(level.peak_bytes for level in others), f"other parts from {_words(odd)} on"
    for a, b in zip(some, others, strict=True):
        apart = [
            abs(a.entry_bytes - b.entry_bytes),
            abs(a.peak_bytes - b.peak_bytes),
            abs(a.exit_bytes - b.exit_bytes),
            *(abs(a.at_peak.get(k, 0) - b.at_peak.get(k, 0)) for k in {*a.at_peak, *b.at_peak}),
            *(abs(a.at_exit.get(k, 0) - b.at_exit.get(k, 0)) for k in {*a.at_exit, *b.at_exit}),
        ]
        if max(apart) > worst:
            worst, where = max(apart), _words(a.part)
    return worst, where


def _words(part: Any) -> str:
    return f"step {part.step}, {part.where}"


def compare_apart(
    cases: Iterable[Case], methods: Sequence[str], both: bool, num_jobs: int
) -> Iterator[Compared]:
    """Compare each model in a process of its own: what ends one ends nothing else."""
    import multiprocessing
    from concurrent.futures import ThreadPoolExecutor

    import torch
    import transformers

    import preflight.trace.run  # noqa: F401  once, before the processes that need it

    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    forked = multiprocessing.get_context("fork")
    modes = (False, True) if both else (False,)
    wanted = [(method, checkpointing) for method in methods for checkpointing in modes]

    def one(case: Case) -> list[Compared]:
        here, there = forked.Pipe(duplex=False)
        process = forked.Process(target=_answer, args=(there, case, wanted, both))
        process.start()
        there.close()
        found: list[Compared] = []
        while len(found) < len(wanted):
            try:
                found.append(here.recv())
            except EOFError:
                method, checkpointing = wanted[len(found)]
                died = Compared(case.name, case.model_type, method, checkpointing)
                found.append(replace(died, problem="the process died"))
                break
        process.join()
        return found

    with ThreadPoolExecutor(num_jobs) as pool:
        for found in pool.map(one, cases):
            yield from found


def _answer(pipe: Any, case: Case, wanted: Iterable[tuple[str, bool]], both: bool) -> None:
    for method, checkpointing in wanted:
        pipe.send(compare(case, method, checkpointing, both))
    pipe.close()


def line_of(compared: Compared) -> str:
    """Return one line of the table."""
    how = compared.method + (", checkpointed" if compared.checkpointing else "")
    head = f"{compared.name:42} {compared.model_type:28} {how:26}"
    if compared.problem:
        return f"{head} not traced: {compared.problem}"
    depth = f"{compared.num_traced_layers:3} of {compared.num_layers:3} layers"
    apart = f"{compared.num_parts:5} parts, {compared.bytes_apart} bytes apart"
    where = f" ({compared.where})" if compared.where else ""
    return f"{head} {depth}, {apart}{where}, {compared.seconds:.1f} s"


def main() -> int:
    """Print the table; return 1 where anything is a byte apart."""
    import argparse
    import os
    import warnings

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive.costs.compare", description=__doc__
    )
    parser.add_argument("types", nargs="*", metavar="TYPE", help="model types or ids; all if none")
    parser.add_argument("--every", action="store_true", help="every model of the registry")
    parser.add_argument(
        "--transformers", action="store_true", help="every causal model type of transformers"
    )
    parser.add_argument("--method", action="append", choices=tuple(METHODS))
    parser.add_argument("--shallow", action="store_true", help="only see whether it is traced")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    cases = transformers_cases() if options.transformers else registry_cases(options.every)
    if options.types:
        cases = [c for c in cases if {c.name, *c.model_type.split("/")}.intersection(options.types)]
    found = []
    methods = options.method or USUAL
    for compared in compare_apart(cases, methods, not options.shallow, options.jobs):
        print(line_of(compared), flush=True)
        found.append(compared)
    traced = [compared for compared in found if not compared.problem]
    apart = [compared for compared in traced if compared.bytes_apart]
    print(f"{len(traced)} traced, {len(apart)} apart, {len(found) - len(traced)} not traced")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
