"""OLMo-core's train module as a script asks for it: FSDP2 in bf16 over weights in fp32, its optimizer, its micro batch.

Source: TransformerTrainModule and parallelize_model of ai2-olmo-core 3.0.0 (train/train_module/transformer/train_module.py,
common.py), TransformerDataParallelConfig (config.py). What is in there and was not counted leaves the loop named.
"""

from __future__ import annotations

import ast

from preflight.launch_facts import Uncounted
from preflight.plan_parts import OLMO_CORE
from preflight.scripts.python.files import CallFound
from preflight.scripts.python.library_classes import dotted
from preflight.scripts.python.nodes import keyword_of, last_name, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.settings.script_settings import OwnEngine, Said, ScriptSettings

MODULES = ("TransformerTrainModuleConfig", "TransformerTrainModule")
SHARDS = {"fsdp", "hsdp"}
"""Members of DataParallelType that are FSDP2; `ddp` casts the whole model and was not counted."""
OPTIMIZERS = ("SkipStepAdamWConfig", "AdamWConfig")
"""Configs of optimizers with two states of each parameter, as wide as it is."""
OF_SHARDS = {"name", "param_dtype", "reduce_dtype", "shard_degree", "num_replicas", "wrapping_strategy"}  # fmt: skip
"""Arguments of TransformerDataParallelConfig but `prefetch_factor`, which gathers blocks ahead."""
ABSENT = ("tp_config", "ep_config", "pp_config", "float8_config", "autocast_precision", "z_loss_multiplier")  # fmt: skip
"""What a script gives that was counted: nothing."""
CHECKPOINTS = "TransformerActivationCheckpointingConfig"


def read_olmo_core(reader: ScriptReader, settings: ScriptSettings) -> OwnEngine | None:
    """Record what OLMo-core's train module is told, and return its engine; None where not all of it is read."""
    calls = [call for call in reader.named(*MODULES) if _is_olmos(reader, call)]
    if len(calls) != 1 or any(_is_olmos(reader, call) for call in reader.maybe(*MODULES)):
        return None
    (call,) = calls
    values, is_open = reader.keywords(call)
    given = {each.arg: each.value for each in call.node.keywords if each.arg}
    if is_open or any(not _is_none(given.get(name)) for name in ABSENT):
        return None
    engine = _engine(reader, call, given.get("dp_config"))
    optimizer = _made(reader, given.get("optim"), call.scope)
    if engine is None or optimizer is None or last_name(optimizer.func) not in OPTIMIZERS:
        return None
    if any(word.arg in (None, "dtype") for word in optimizer.keywords):
        return None
    place = reader.place(call)
    said: dict[str, object] = {
        "mixed_precision": "bf16",
        "dtype": "float32",
        "attn_implementation": "sdpa",
        "loop_optimizer": "adamw_torch",
        "gradient_checkpointing": _checkpoints(reader, given.get("ac_config"), call.scope),
    }
    if last_name(optimizer.func) == OPTIMIZERS[0]:
        said["loop_optimizer_kernel"] = "for_loop"
    for name, value in said.items():
        settings.may_be.pop(name, None)
        settings.put(name, Known(value, place))
    if "max_grad_norm" in values:
        settings.put("max_grad_norm", values["max_grad_norm"])
    _rows(reader, settings, call, values)
    settings.unread.pop("engine", None)
    settings.uncounted[OLMO_CORE] = Uncounted(place, "either")
    return engine


def _is_olmos(reader: ScriptReader, call: CallFound) -> bool:
    return dotted(reader, call.node.func, call.scope.path).startswith("olmo_core.")


def _is_none(node: ast.expr | None) -> bool:
    return node is None or (isinstance(node, ast.Constant) and node.value is None)


def _made(reader: ScriptReader, node: ast.expr | None, scope: Scope) -> ast.Call | None:
    """Return the call that makes what an argument is given; None where it may be several, or none is seen."""
    only = None if node is None else reader.evaluator.only_node(node, scope)
    return only[0] if only is not None and isinstance(only[0], ast.Call) else None


def _engine(reader: ScriptReader, call: CallFound, node: ast.expr | None) -> OwnEngine | None:
    """Return FSDP2 over all ranks, or over some that only running tells, as the config of data parallelism says."""
    made = _made(reader, node, call.scope)
    if made is None or last_name(made.func) != "TransformerDataParallelConfig":
        return None
    said = {each.arg: each.value for each in made.keywords if each.arg}
    dtype = said.get("param_dtype")
    names = _members(said.get("name"), "DataParallelType")
    is_read = said.keys() <= OF_SHARDS and len(said) == len(made.keywords) and bool(names)
    if (
        made.args
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
    }
    group = "all" if names == {"fsdp"} else "mesh"
    return OwnEngine(("fsdp2",), True, place, fields, group=group)


def _members(node: ast.expr | None, of: str) -> set[str]:
    """Return the members of an enumeration that an expression chooses from: `a.hsdp if many else a.fsdp`."""
    attributes = [each for each in walk(node) if isinstance(each, ast.Attribute)] if node else []
    return {each.attr for each in attributes if last_name(each.value) == of}


def _checkpoints(reader: ScriptReader, node: ast.expr | None, scope: Scope) -> object:
    """Return whether blocks are checkpointed; UNKNOWN where only running tells, or parts of them are."""
    if _is_none(node):
        return False
    made = _made(reader, node, scope)
    if made is None or last_name(made.func) != CHECKPOINTS:
        return UNKNOWN
    mode = keyword_of(made, "mode")
    is_full = mode is None or _members(mode, "TransformerActivationCheckpointingMode") == {"full"}
    return True if is_full else UNKNOWN


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
