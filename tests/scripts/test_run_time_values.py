"""What only running a script tells is nothing that anybody hears of: no value, no message and no fault holds it."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_sources import own_trees

from preflight.api import check
from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.scripts.python.scope import Known, Parsed, _Unknown
from preflight.scripts.settings.script_settings import said_of
from preflight.setting import Place

PLUGINS = load_plugins()
NOWHERE = Place("script", "train.py", "", 1)

UNKNOWN_TO_READERS = [
    "ask()",
    "[ask()]",
    "(ask(), 1)",
    "{'a': ask()}",
    "{'': ask()}",
    "{ask(): 1}",
    "{**ask()}",
    "{'a': {'b': ask(), 'c': 1}}",
    "[{'a': ask(), 'b': 2}]",
    "{'dtype': ask(), 'attn_implementation': 'sdpa'}",
    "dict(a=ask())",
    "dict(ask())",
    "f'{ask()}'",
    "ask() if ask() else None",
    "None if ask() else 'auto'",
    "'auto' if args.which else ask()",
    "ask() or 4",
    "not ask()",
    "-ask()",
    "ask() * 2",
    "[1, 2] * ask()",
    "ask()[0]",
    "ask().where",
    "args",
    "vars(args)",
    "{'a': args}",
    "[args]",
    "args.rank",
    "args.missing",
    "getattr(torch, ask())",
    "[x for x in ask()]",
    "lambda: 1",
    "{1, 2}",
    "b'bytes'",
    "...",
    "1j",
    "os.environ['RANK']",
    "os.environ.get(ask())",
    "int(ask())",
    "'q_proj,v_proj'.split(ask())",
    "float('nan')",
]
PLACES = [
    ("TrainingArguments", ["bf16", "optim", "gradient_checkpointing", "fsdp", "fsdp_config"]),
    ("TrainingArguments", ["deepspeed", "per_device_train_batch_size", "max_grad_norm"]),
    ("TrainingArguments", ["gradient_checkpointing_kwargs", "accelerator_config", "save_steps"]),
    ("TrainingArguments", ["load_best_model_at_end", "optim_target_modules", "torch_compile"]),
    ("SFTConfig", ["max_length", "packing", "model_init_kwargs", "loss_type", "padding_free"]),
    ("GRPOConfig", ["num_generations", "generation_batch_size", "beta", "sync_ref_model"]),
    ("AutoModelForCausalLM.from_pretrained", ["device_map", "torch_dtype", "dtype"]),
    ("AutoModelForCausalLM.from_pretrained", ["attn_implementation", "load_in_4bit"]),
    ("LoraConfig", ["r", "lora_alpha", "target_modules", "modules_to_save", "lora_dropout"]),
    ("BitsAndBytesConfig", ["load_in_4bit", "load_in_8bit", "bnb_4bit_quant_storage"]),
    ("BitsAndBytesConfig", ["bnb_4bit_compute_dtype", "bnb_4bit_quant_type"]),
    ("FullyShardedDataParallelPlugin", ["fsdp_version", "auto_wrap_policy", "cpu_offload"]),
    ("FullyShardedDataParallelPlugin", ["transformer_cls_names_to_wrap", "min_num_params"]),
    ("Accelerator", ["mixed_precision", "gradient_accumulation_steps", "fsdp_plugin"]),
    ("DataLoader", ["batch_size", "shuffle"]),
    ("tokenizer", ["max_length", "truncation"]),
    ("prepare_model_for_kbit_training", ["use_gradient_checkpointing"]),
    ("clip_grad_norm_", ["max_norm"]),
]
TRAINERS = ["Trainer", "SFTTrainer", "GRPOTrainer", ""]
SCRIPT = """\
import argparse, os, torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
{library}

parser = argparse.ArgumentParser()
parser.add_argument("--rank", type=int, default=ask())
parser.add_argument("--which", action=ask())
args = parser.parse_args()
{calls}
{trainer}
"""

values = st.sampled_from(UNKNOWN_TO_READERS)


@st.composite
def scripts(draw: st.DrawFn) -> str:
    calls = []
    for number in range(draw(st.integers(1, 4))):
        name, keywords = draw(st.sampled_from(PLACES))
        chosen = draw(st.lists(st.sampled_from(keywords), unique=True, max_size=3))
        words = [f"{keyword}={draw(values)}" for keyword in chosen]
        first = ["'gpt2'"] if name.endswith("from_pretrained") else []
        spread = [f"**{draw(values)}"] if draw(st.booleans()) else []
        call = f"made{number} = {name}({', '.join([*first, *words, *spread])})"
        if draw(st.booleans()):
            call = f"if {draw(values)}:\n    {call}"
        calls.append(call)
        if draw(st.booleans()):
            keyword = draw(st.sampled_from(keywords))
            calls.append(f"training_args.{keyword} = {draw(values)}")
    trainer = draw(st.sampled_from(TRAINERS))
    library = "from trl import SFTConfig, GRPOConfig" if trainer.startswith(("S", "G")) else ""
    ends = f"{trainer}(model, args=made0).train()" if trainer else "accelerator = Accelerator()"
    return SCRIPT.format(library=library, calls="\n".join(calls), trainer=ends)


def held(value: object, seen: set[int]) -> Iterator[object]:
    """Yield everything that a value holds, at whatever depth."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield value
    inner: list[object] = []
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = list(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, each.name) for each in dataclasses.fields(value)]
    for each in inner:
        yield from held(each, seen)


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    script=scripts(), launcher=st.sampled_from(["--use_fsdp", "--use_deepspeed --zero_stage 3", ""])
)
def test_nothing_that_is_found_holds_what_is_not_known(tmp_path, script, launcher):
    (tmp_path / "train.py").write_text(script)
    argv = ["accelerate", "launch", "--num_processes", "2", *launcher.split(), "train.py"]
    command = LaunchCommand(tuple(argv), {}, str(tmp_path))
    try:
        plan = PLUGINS.first("preflight_read_launch", command=command)
    except BadInput as error:
        texts = [f"{p.message} {p.where} {p.fix}" for p in error.problems]
    else:
        found = [
            each
            for _, each in PLUGINS.collect(
                "preflight_findings", plan=plan, model=None, device=None, estimate=None
            )
        ]
        leaked = [
            each
            for each in held((plan, found), set())
            if isinstance(each, (_Unknown, Known, Parsed))
        ]
        assert leaked == []

        texts = [f"{f.message} {f.where} {f.fix}" for f in found]
        texts += [f"{p.message} {p.where} {p.fix}" for p in plan.notices]
        texts += [f"{o.where} {o.reason}" for o in plan.origins.values()]

    assert [text for text in texts if "UNKNOWN" in text or "Known(" in text] == []


@pytest.mark.parametrize("value", UNKNOWN_TO_READERS)
def test_a_check_of_a_script_with_run_time_values_ends_with_a_verdict(tmp_path, value):
    calls = "\n".join(
        f"{name}('gpt2', {keyword}={value})" if "." in name else f"{name}({keyword}={value})"
        for name, keywords in PLACES
        for keyword in keywords
    )
    script = SCRIPT.format(library="from trl import SFTTrainer", calls=calls, trainer="")
    (tmp_path / "train.py").write_text(script)
    argv = ["accelerate", "launch", "--num_processes", "2", "train.py"]
    try:
        report = check(argv, cwd=str(tmp_path), env={}, device="h100-sxm-80")
    except BadInput as error:
        shown = str(error)
    else:
        shown = str(report.to_dict())

    assert "UNKNOWN" not in shown


def test_what_is_not_known_stays_in_the_package_that_reads_scripts():
    """The types of what can be evaluated are nobody else's: everybody else gets what `said_of` lets through."""
    users = []
    for path, tree in own_trees():
        for node in ast.walk(tree) if not path.startswith("preflight/scripts/") else ():
            if isinstance(node, ast.ImportFrom) and node.module == "preflight.scripts.python.scope":
                names = {alias.name for alias in node.names}
                users += [(path, name) for name in names & {"UNKNOWN", "Known", "Parsed"}]

    assert users == []


def test_what_a_reader_evaluates_has_no_type_until_it_was_looked_at():
    """mypy then finds every use of a value that was not asked what it is."""
    hints = {each.name: each.type for each in dataclasses.fields(Known)}

    assert hints["value"] == "object"


@pytest.mark.parametrize(
    ("value", "left", "left_out"),
    [
        ({"a": 1, "b": _Unknown()}, {"a": 1}, ("b",)),
        ({"a": {"b": _Unknown(), "c": 2}}, {"a": {"c": 2}}, ("a", "a.b")),
        ({"a": Known(3, NOWHERE)}, {"a": 3}, ()),
        ([1, "x", None], [1, "x", None], ()),
        ({}, {}, ()),
    ],
)
def test_a_dict_is_said_without_what_is_not_known(value, left, left_out):
    value = with_the_unknown(value)
    said = said_of(Known(value, NOWHERE))

    assert said is not None
    assert (said.value, said.left_out) == (left, left_out)


@pytest.mark.parametrize(
    "value", [_Unknown(), [_Unknown()], [{"a": _Unknown(), "b": 1}], {"a": _Unknown()}, Parsed({})]
)
def test_what_is_not_known_is_not_said(value):
    assert said_of(Known(with_the_unknown(value), NOWHERE)) is None


def with_the_unknown(value: object) -> object:
    """Return a value with the one UNKNOWN that readers have in place of others of its class."""
    from preflight.scripts.python.scope import UNKNOWN

    if isinstance(value, _Unknown):
        return UNKNOWN
    if isinstance(value, dict):
        return {key: with_the_unknown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_the_unknown(item) for item in value]
    return value


@pytest.mark.parametrize(("executed", "batch"), [("exec(open('configurator.py').read())\n", None), ("", 4)])  # fmt: skip
def test_what_a_file_that_is_executed_may_set_is_not_known(tmp_path, executed, batch):
    text = (
        "from transformers import Trainer, TrainingArguments\nrows = 4\n" + executed
        + "Trainer(model, TrainingArguments('out', per_device_train_batch_size=rows)).train()\n"
    )  # fmt: skip
    (tmp_path / "t.py").write_text(text)
    command = LaunchCommand(
        ("torchrun", "--nproc_per_node", "2", "t.py", "--rows=64"), {}, str(tmp_path)
    )
    plan = load_plugins().first("preflight_read_launch", command=command)

    assert plan.micro_batch_size == batch
