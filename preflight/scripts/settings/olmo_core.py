"""OLMo-core's train module as a script asks for it: FSDP2 in bf16 over weights in fp32, its optimizer, its micro batch.

Source: TransformerTrainModule and parallelize_model of ai2-olmo-core 2.6.0 and 3.0.0 (train/train_module/transformer/
train_module.py, common.py), TransformerDataParallelConfig (config.py). What is in there and was not counted leaves the loop
named.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping

from preflight.launch_facts import Uncounted
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import keyword_of, last_name, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.script_settings import OwnEngine, Said, ScriptSettings
from preflight.unpriced_names import DIVIDED, OLMO_CORE, OLMO_PARTS, Z_LOSS
from preflight.values import replace

MODULES = ("TransformerTrainModuleConfig", "TransformerTrainModule")
SHARDS = {"fsdp", "hsdp"}
"""Members of DataParallelType that are FSDP2; `ddp` casts the whole model and was not counted."""
OPTIMIZERS = ("SkipStepAdamWConfig", "AdamWConfig")
"""Configs of optimizers with two states of each parameter, as wide as it is."""
OF_SHARDS = {"name", "param_dtype", "reduce_dtype", "shard_degree", "num_replicas", "wrapping_strategy"}  # fmt: skip
"""Arguments of TransformerDataParallelConfig but `prefetch_factor`, which gathers blocks ahead."""
ABSENT = ("tp_config", "ep_config", "pp_config", "autocast_precision")
"""What a script gives that was counted: nothing."""
DEVICES = 720720
"""Stands for the devices of a node, which are as many as its ranks: what all numbers to 16 divide."""


def read_olmo_core(reader: ScriptReader, settings: ScriptSettings) -> OwnEngine | None:
    """Record what OLMo-core's train module is told, and return its engine; None where not all of it is read."""
    calls = [call for call in reader.named(*MODULES) if _is_olmos(reader, call)]
    if len(calls) != 1 or any(_is_olmos(reader, call) for call in reader.maybe(*MODULES)):
        return None
    from preflight.scripts.settings.olmo_core_blocks import is_none, read_blocks  # few have any
    from preflight.scripts.settings.olmo_core_model import evaluates, overrides, read_factory

    (call,) = calls
    values, is_open = reader.keywords(call)
    compiles = values["compile_model"].value if "compile_model" in values else False
    if (
        is_open
        or not isinstance(compiles, bool)
        or any(not is_none(call, values, name) for name in ABSENT)
        or not (is_none(call, values, "float8_config") or _is_off(reader, call))
        or overrides(reader)
    ):
        return None
    blocks = read_blocks(reader, call, values)
    engine = _engine(reader, call, keyword_of(call.node, "dp_config"), blocks.sharing)
    optimizer = reader.only_call(keyword_of(call.node, "optim"), call.scope)
    if engine is None or optimizer is None or optimizer.name not in OPTIMIZERS:
        return None
    if any(word.arg in (None, "dtype") for word in optimizer.node.keywords):
        return None
    place = reader.place(call)
    if blocks.loss not in (None, "default"):
        return None
    said: dict[str, object] = {
        "mixed_precision": "bf16",
        "dtype": "float32",
        "loop_optimizer": "adamw_torch",
        "gradient_checkpointing": blocks.checkpoints,
        "torch_compile": compiles,
        "keeps_outputs": False,
    }
    if optimizer.name == OPTIMIZERS[0]:
        said["loop_optimizer_kernel"] = "for_loop"
    for name, value in said.items():
        settings.may_be.pop(name, None)
        settings.put(name, Known(value, place))
    settings.put("attn_implementation", Known(blocks.attention, place))
    if blocks.attention is UNKNOWN:
        settings.may_be["attention"] = ("flash_attention_2", "sdpa")
    if "max_grad_norm" in values:
        settings.put("max_grad_norm", values["max_grad_norm"])
    _rows(reader, settings, call, values)
    read_factory(reader, settings)
    rows = settings.arguments.get("per_device_train_batch_size")
    if evaluates(reader):
        settings.put("loop_eval_rows", Known(UNKNOWN if rows is None else rows.value, place))
    if not compiles and not is_none(call, values, "z_loss_multiplier"):
        settings.uncounted[Z_LOSS] = Uncounted(place, "more")
    settings.unread.pop("engine", None)
    settings.uncounted[OLMO_CORE] = Uncounted(place, "either")
    if blocks.by_parts:
        settings.uncounted[OLMO_PARTS] = Uncounted(place, "more")
    fields = {**engine.fields, "loss": Said("compiled_ce" if compiles else "full_logits", place)}
    if blocks.sharing is None:
        settings.uncounted[DIVIDED] = Uncounted(place, "less")
    else:
        fields["sequence_parallel_degree"] = Said(blocks.sharing, place)
    return replace(engine, fields=fields)


def _is_olmos(reader: ScriptReader, call: CallFound) -> bool:
    return dotted(reader, call.node.func, call.scope.path).startswith("olmo_core.")


def _is_off(reader: ScriptReader, call: CallFound) -> bool:
    """Tell whether a script gives a config of float8 that is turned off."""
    made = reader.only_call(keyword_of(call.node, "float8_config"), call.scope)
    enabled = None if made is None else keyword_of(made.node, "enabled")
    return isinstance(enabled, ast.Constant) and enabled.value is False


def _engine(
    reader: ScriptReader, call: CallFound, node: ast.expr | None, sharing: int | None
) -> OwnEngine | None:
    """Return FSDP2 over all ranks, or over some that only running tells, as the config of data parallelism says.

    Gradients are divided in every micro step: what waits for the last one is the sum over replicas alone
    (_train_microbatch_context of train_module.py).
    """
    made = reader.only_call(node, call.scope)
    if made is None or made.name != "TransformerDataParallelConfig":
        return None
    said = {each.arg: each.value for each in made.node.keywords if each.arg}
    dtype = said.get("param_dtype")
    names = _members(said.get("name"), "DataParallelType")
    is_read = said.keys() <= OF_SHARDS and len(said) == len(made.node.keywords) and bool(names)
    if (
        made.node.args
        or not is_read
        or not names <= SHARDS
        or dtype is None
        or last_name(dtype) != "bfloat16"
    ):
        return None
    reduced = said.get("reduce_dtype")
    if reduced is not None and last_name(reduced) != "float32":
        return None
    place = reader.place(call)
    fields = {
        "wrap_policy": Said("transformer", place),
        "reshard_after_forward": Said(True, place),
        "offload_params": Said("none", place),
        "reduce_dtype": Said("fp32", place),
        "sync_each_batch": Said(True, place),
    }
    degrees: dict[str, ast.expr] = {
        name: node for name, node in said.items() if name in ("shard_degree", "num_replicas")
    }
    of_node = _is_of_node(reader, degrees, call.scope, sharing)
    group = "all" if names == {"fsdp"} else "node" if of_node else "mesh"
    return OwnEngine(("fsdp2",), True, place, fields, group=group)


def _is_of_node(
    reader: ScriptReader, degrees: Mapping[str, ast.expr], scope: Scope, sharing: int | None
) -> bool:
    """Tell whether each node surely has a copy: nothing says another degree, or it is the devices of a node by the ranks that
    share a sequence, which are in the mesh too (get_dp_model_mesh of distributed/parallel/__init__.py)."""
    values = {name: reader.evaluator.value(node, scope) for name, node in degrees.items()}
    if values.get("num_replicas") is not None:
        return False
    degree = degrees.get("shard_degree")
    if degree is None or values["shard_degree"] is None:
        return True
    shards = reader.evaluator.for_devices(degree, scope, DEVICES)
    return isinstance(shards, int) and shards * (sharing or 0) == DEVICES


def _members(node: ast.expr | None, of: str) -> set[str]:
    """Return the members of an enumeration that an expression chooses from: `a.hsdp if many else a.fsdp`."""
    attributes = [each for each in walk(node) if isinstance(each, ast.Attribute)] if node else []
    return {each.attr for each in attributes if last_name(each.value) == of}


def _rows(
    reader: ScriptReader, settings: ScriptSettings, call: CallFound, values: dict[str, Known]
) -> None:
    """Record the length of a row, and the rows of a micro batch, which OLMo-core is told in tokens."""
    length, tokens = values.get("max_sequence_length"), values.get("rank_microbatch_size")
    if length is None or tokens is None:
        return
    settings.put("seq_len", length)
    rows: object = UNKNOWN
    if isinstance(length.value, int) and isinstance(tokens.value, int) and length.value > 0:
        rows = tokens.value // length.value
    settings.put("per_device_train_batch_size", Known(rows, tokens.place))
