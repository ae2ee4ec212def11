"""Training scripts in the style of public ones: what is read from them, and what they give the real libraries."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from preflight.launch import LaunchCommand, LaunchPlan, plain
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch

HERE = Path(__file__).parent
SCRIPTS = HERE.parent / "configs" / "scripts"
CASES: dict[str, dict[str, Any]] = yaml.safe_load((SCRIPTS / "manifest.yaml").read_text())
HELPERS = ("arguments_beside.py", "constants.py")
NOT_RUN = ("fire_main",)
"""It needs a package that the tests do not install."""
DTYPES = {
    "torch.bfloat16": "bf16",
    "bfloat16": "bf16",
    "torch.float16": "fp16",
    "torch.float32": "fp32",
}
FIELDS = (
    *("model", "micro_batch_size", "gradient_accumulation_steps", "seq_len", "sequence_kind"),
    *("activation_checkpointing", "optimizer", "mixed_precision", "max_grad_norm", "load_dtype"),
    *("attention", "adapter", "base_quantization"),
)


def read(case: dict[str, Any]) -> LaunchPlan:
    argv = ("accelerate", "launch", *shlex.split(case["argv"]))
    plan = read_launch(LaunchCommand(argv, case.get("env", {}), str(SCRIPTS)), load_plugins(None))
    assert plan is not None
    return plan


def said(plan: LaunchPlan) -> dict[str, str]:
    """Return every field that the script or a flag says, with its place, as the manifest writes it."""
    found = {}
    for name in FIELDS:
        origin, value = plan.origins.get(name), plain(getattr(plan, name))
        if origin is None or origin.assumed or origin.where.startswith("default of"):
            continue
        if isinstance(value, dict):
            hidden = ("kind", "upcast_unquantized_to_fp32")
            value = {k: v for k, v in value.items() if v is not None and k not in hidden}
        shown = value if isinstance(value, str) else json.dumps(value)
        found[name] = f"{shown} ({origin.where})"
    return found


@pytest.mark.parametrize("name", CASES)
def test_what_a_script_says_is_what_the_manifest_says(name):
    case = CASES[name]
    plan = read(case)

    assert said(plan) == case["says"]
    assert {*plan.script_facts.unread} & {*FIELDS} == {*case.get("unknown", ())}
    for field in case.get("unknown", ()):
        assert getattr(plan, field) is None or plan.origins[field].assumed, field


def test_every_script_of_the_corpus_is_in_the_manifest():
    used = {word for case in CASES.values() for word in case["argv"].split()}

    assert {path.name for path in SCRIPTS.glob("*.py")} - {*HELPERS} == {
        word for word in used if word.endswith(".py")
    }


@pytest.fixture(scope="module")
def real(ranks) -> dict[str, dict[str, Any]]:
    """Return what the scripts gave the real libraries; one process runs all of them."""
    asked = {name: case for name, case in CASES.items() if name not in NOT_RUN}
    lines = [
        json.dumps([case.get("env", {}), str(SCRIPTS), *shlex.split(case["argv"])[2:]])
        for case in asked.values()
    ]
    printed = ranks.printed(HERE / "real_scripts.py", world=0, stdin="\n".join(lines))
    results = json.loads(printed.partition("RESULTS")[2])
    return dict(zip(asked, results, strict=True))


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_RUN])
def test_what_is_read_is_what_the_real_libraries_get(name, real):
    """A value that is not marked unknown is the real one; nothing is read wrongly."""
    got, plan = real[name], read(CASES[name])
    unknown = CASES[name].get("unknown", ())
    assert got["outcome"] == "trained", got["outcome"]
    arguments = got["arguments"]
    precision = "bf16" if arguments["bf16"] else "fp16" if arguments["fp16"] else "no"
    expected = {
        "micro_batch_size": arguments["per_device_train_batch_size"],
        "gradient_accumulation_steps": arguments["gradient_accumulation_steps"],
        "max_grad_norm": arguments["max_grad_norm"],
        "optimizer": arguments["optim"],
        "mixed_precision": precision,
        "activation_checkpointing": "full" if got["checkpointing"] else "none",
    }
    if "max_length" in arguments:
        expected["seq_len"] = arguments["max_length"]
        expected["sequence_kind"] = "packed" if arguments["packing"] else "padded"
    wrong = {
        field: (getattr(plan, field), value)
        for field, value in expected.items()
        if field not in unknown and getattr(plan, field) != value
    }

    assert wrong == {}
    if plan.model is not None:
        assert plan.model == got["model"]["name"]
    for key in ("dtype", "torch_dtype"):
        if got["model"].get(key, "auto") not in ("auto", "None"):
            assert plan.load_dtype == DTYPES[got["model"][key]]
    if got["model"]["attention"] is not None:
        assert plan.attention == got["model"]["attention"]
    assert _adapter(plan) == got.get("adapter")
    assert _quantization(plan) == got.get("quantization")


def _adapter(plan: LaunchPlan) -> dict[str, Any] | None:
    adapter = plan.adapter
    if adapter is None:
        return None
    targets = adapter.targets
    return {
        "rank": adapter.rank,
        "alpha": adapter.alpha,
        "dropout": adapter.dropout,
        "targets": sorted(targets) if isinstance(targets, tuple) else targets,
    }


def _quantization(plan: LaunchPlan) -> dict[str, Any] | None:
    base = plan.base_quantization
    if base is None:
        return None
    return {"scheme": base.scheme, "double_quant": base.double_quant, "compute": base.compute_dtype}
