"""Plan fields from a torchtitan config: model, batch, precision, checkpointing, optimizer, loss.

Source: torchtitan 0.2.2 (distributed/activation_checkpoint.py, train.py:195-215) and 0.3.0 (trainer.py, distributed/fsdp.py).
"""

from __future__ import annotations

from preflight.formulas.layers.installed_kernels import KERNELS
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.torchtitan.config import CHECKPOINTING
from preflight.launchers.torchtitan.config_values import TitanConfig
from preflight.launchers.torchtitan.degrees import TitanReader, read_degrees, read_pipeline
from preflight.launchers.torchtitan.table import MODULE_VERSION, model_of, table
from preflight.near_names import nearest_fix
from preflight.setting import Setting
from preflight.unpriced_names import CONVERTED_BY, CUDA_GRAPH, FLOAT8, FLOAT8_HEAD

DTYPES = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}
LOSSES = {"ChunkedLossWrapper": "chunked_linear", "CrossEntropyLoss": "full_logits"}

FLOAT8_SECTIONS = ("float8", "quantize.linear.float8")
FLOAT8_CONVERTERS = (*FLOAT8_SECTIONS, "Float8")
"""What makes torchao's Float8Linear of linear layers, by release (torchtitan/components/quantization/float8.py, 0.1 to 0.3)."""
HEADS = frozenset({"output", "lm_head"})


def read_plan(keys: FrameworkKeys, config: TitanConfig, world_size: Setting) -> None:
    """Put every plan field that the config decides."""
    reader = TitanReader(keys, config)
    if config.version == MODULE_VERSION and config.entry is None:
        return
    shards, copies, pipeline = read_degrees(reader, world_size)
    _model(reader)
    if not read_pipeline(reader, pipeline):
        pipeline = 1
    _batch(reader, shards * copies, pipeline > 1)
    _precision(reader)
    is_graph = config.entry is not None and bool(config.entry.get("is_graph"))
    if not is_graph:
        _checkpointing(reader)
    _optimizer(reader)
    _rest(reader, is_graph)
    if is_graph:
        from preflight.launchers.torchtitan.graph_trainer import read_graph_step  # few launches are

        read_graph_step(reader)
    elif config.entry is not None:
        _captured(reader)


def _model(reader: TitanReader) -> None:
    keys, config = reader.keys, reader.config
    if config.entry is not None:
        family, flavor = config.module, str(config.entry["flavor"])
    else:
        family, flavor = str(reader.value("model.name")), str(reader.value("model.flavor"))
    models = table(config.version)["models"]
    found = model_of(config.version, family, flavor)
    where = keys.get("model.flavor", "model.name")
    at = where or reader.at("model.flavor", flavor)
    if found is None and where is not None and family in models:
        keys.refuse(
            f"torchtitan {config.version} has no {family} of flavor {flavor}",
            where,
            nearest_fix(flavor, tuple(models[family])) or f"one of {', '.join(models[family])}",
        )
        return
    if found is not None and "model" in found:
        keys.put("model", found["model"], at)
    elif found is not None and "config" in found:
        keys.put("model_config", found["config"], at)
    else:
        keys.note(
            "PF143",
            f"the sizes of {family} {flavor} are not known to preflight",
            at,
            "--set model_config=FILE, a config.json with its sizes",
        )


def _batch(reader: TitanReader, batch_degree: int, in_stages: bool) -> None:
    keys = reader.keys
    micro = reader.degree("training.local_batch_size")
    passes, key = 1, "training.local_batch_size"
    if in_stages:
        key = "parallelism.pipeline_parallel_microbatch_size"
        passes = max(1, micro // reader.degree(key))
    reader.put("micro_batch_size", micro // passes, key, "training.local_batch_size")
    total, at = reader.value("training.global_batch_size"), keys.get("training.global_batch_size")
    steps = 1
    if isinstance(total, int) and total > 0:
        steps = total // (micro * batch_degree)
        if at is not None and (total % (micro * batch_degree) or steps < 1):
            keys.refuse(
                f"training.global_batch_size {total} is no multiple of {micro} per rank x {batch_degree} ranks",
                at,
                f"{max(1, steps) * micro * batch_degree}",
            )
    reader.put(
        "gradient_accumulation_steps",
        max(1, steps) * passes,
        "training.global_batch_size",
        reason="global_batch_size -1 takes one micro step",
    )
    reader.put("seq_len", reader.degree("training.seq_len"), "training.seq_len")
    keys.assume("sequence_kind", "fixed", "the data loader cuts a stream into seq_len")
    keys.assume("attention", "sdpa", "FlexAttention's kernel keeps what SDPA's does")
    norm = reader.value("training.max_norm")
    if isinstance(norm, (int, float)):
        reader.put("max_grad_norm", float(norm), "training.max_norm")
    if reader.value("validation.enable"):
        reader.put(
            "eval_micro_batch_size",
            reader.degree("validation.local_batch_size"),
            "validation.local_batch_size",
        )
        longer = keys.get("validation.seq_len")
        if longer is not None and reader.degree("validation.seq_len") > reader.degree(
            "training.seq_len"
        ):
            message = "rows of the validation are estimated at the length of training"
            keys.leave_out(NotModelled(message, "longer rows in a validation", "more"), longer)


def _precision(reader: TitanReader) -> None:
    """FSDP casts, autocast does it on one rank and under DDP, nothing under tensor or pipeline parallelism alone (utils.py:243, 0.2.2)."""
    dtype = DTYPES.get(reader.value("training.dtype") or "float32")
    reader.put("load_dtype", dtype, "training.dtype", reason="weights are made in fp32")
    reader.put("master_dtype", dtype, "training.dtype")
    compute = reader.choice("training.mixed_precision_param", DTYPES)
    engine = reader.keys.settings["engine"].value
    tensor = reader.keys.settings["tensor_parallel_degree"].value
    stages = reader.degree("parallelism.pipeline_parallel_degree")
    divided = tensor > 1 or stages > 1
    if engine == "single" and divided and reader.config.version != MODULE_VERSION:
        compute = "fp32"
    mixed = "no" if compute == "fp32" else compute
    reader.put("mixed_precision", mixed, "training.mixed_precision_param")
    if engine == "fsdp2":
        reduce = reader.choice("training.mixed_precision_reduce", DTYPES)
        reader.put("reduce_dtype", reduce, "training.mixed_precision_reduce")


def _checkpointing(reader: TitanReader) -> None:
    keys, config = reader.keys, reader.config
    mode, option = "activation_checkpoint.mode", "activation_checkpoint.selective_ac_option"
    if config.entry is not None:
        word = keys.value(mode, CHECKPOINTING.get(config.entry["activation_checkpoint"]))
        # 0.3's selective keeps every second matrix product, as the option `op` did.
        value = {"selective": "selective_op", "full": "full", "none": "none"}.get(str(word))
    else:
        word = reader.value(mode)
        value = {"full": "full", "none": "none"}.get(str(word))
        if word == "selective":
            value = _selective(reader, str(reader.value(option)))
    if value is None:
        at = keys.get(mode)
        if at is not None and word not in ("selective", "memory_budget", "memory-budget"):
            keys.refuse(f"{mode} must be none, selective or full, not {word!r}", at)
        elif word != "selective":
            message = f"{mode} {word} is estimated as none"
            not_modelled = NotModelled(message, f"checkpointing by {word}", "less")
            keys.leave_out(not_modelled, reader.at(mode, word))
        value = "none"
    reader.put("activation_checkpointing", value, mode, option)


def _selective(reader: TitanReader, option: str) -> str | None:
    known = {"op": "selective_op", "2": "selective_every_2", "1": "full", "0": "full"}
    at = reader.keys.get("activation_checkpoint.selective_ac_option")
    if option not in known and at is not None:
        if not option.isdigit():
            reader.keys.refuse(f"selective_ac_option must be op or a number, not {option!r}", at)
        else:
            message = f"checkpointing every {option} layers is estimated as none"
            left_out = NotModelled(message, f"checkpointing every {option} layers", "less")
            reader.keys.leave_out(left_out, at)
            return "none"
    return known.get(option)


def _optimizer(reader: TitanReader) -> None:
    keys, config = reader.keys, reader.config
    name = reader.value("optimizer.name")
    if config.entry is not None:
        name = config.entry["optimizer"]["name"]
    how = reader.value("optimizer.implementation") or "fused"
    if name not in ("Adam", "AdamW"):
        at = reader.at("optimizer.name", name)
        message = f"optimizer {name} is estimated as AdamW"
        keys.leave_out(NotModelled(message, f"the states of {name}", "either"), at)
    fields = ("optimizer.implementation", "optimizer.name")
    reader.put("optimizer", "adamw_torch_fused" if how == "fused" else "adamw_torch", *fields)
    if how in ("foreach", "for-loop"):
        reader.put("optimizer_kernel", str(how).replace("-", "_"), fields[0])
    elif how != "fused" and (stated := keys.get(fields[0])) is not None:
        message = f"optimizer.implementation must be fused, foreach or for-loop, not {how!r}"
        keys.refuse(message, stated)
    early = keys.flag("optimizer.early_step_in_backward")
    if early is not None and early.value:
        keys.put("optimizer_in_backward", True, early)


def _rest(reader: TitanReader, is_graph: bool) -> None:
    keys, config = reader.keys, reader.config
    loss, key = "full_logits", "compile.enable"
    if config.entry is not None:
        loss = LOSSES.get(config.entry["loss"], "full_logits")
    compiles = reader.value(key)
    if config.version == "0.1.0":
        key = "training.compile"
        compiles = reader.value(key)
    compiles = compiles and not is_graph
    components = reader.value("compile.components")
    compiled = components if isinstance(components, list) else ("model", "loss")
    reader.put("torch_compile", bool(compiles) and "model" in compiled, key)
    if loss == "full_logits" and compiles and "loss" in compiled:
        loss = "compiled_ce"  # torchtitan/components/loss.py (0.1.0 and 0.3.0)
    keys.assume("loss", loss)
    converters = keys.get("model.converters")
    names = converters.value if converters is not None else ()
    if config.entry is not None:
        names = config.entry["converted"]
    names = names.split(",") if isinstance(names, str) else names
    _kernels(reader)
    if names:
        at = reader.at("model.converters", names)
        shown = ", ".join(str(name) for name in names)
        message = f"{shown} converts layers, which are estimated as they were"
        unpriced = f"{CONVERTED_BY}{shown}"
        if all(str(name) in FLOAT8_CONVERTERS for name in names):
            unpriced = FLOAT8 if _leaves_head(reader) else FLOAT8_HEAD
        keys.leave_out(NotModelled(message, unpriced, "either"), at)


def _leaves_head(reader: TitanReader) -> bool:
    """Tell whether a float8 converter is told to leave the head as it is."""
    left = [reader.value(f"{section}.filter_fqns") or () for section in FLOAT8_SECTIONS]
    return any(HEADS.intersection(names) for names in left if isinstance(names, (list, tuple)))


def _kernels(reader: TitanReader) -> None:
    """Name modules that are replaced by fused ones (trainer.py:613, 0.3.0)."""
    keys, config = reader.keys, reader.config
    imports = keys.get("override.imports")
    if imports is not None or (config.entry is not None and config.entry.get("fused")):
        at = reader.at("override.imports", True)
        message = "modules that --override.imports replaces are estimated as they were"
        keys.leave_out(NotModelled(message, KERNELS, "less"), at)


def _captured(reader: TitanReader) -> None:
    """Name what CUDA graphs hold (trainer.py:874, 0.3.0)."""
    key = "training.disable_cuda_graphs"
    if reader.value(key):
        return
    # Gradients stay between steps, and the graph's pool lies beside what the steps before it left.
    reader.put("zero_grad_set_to_none", False, key)
    message = "forward and backward are a CUDA graph, whose pool is not counted"
    reader.keys.leave_out(NotModelled(message, CUDA_GRAPH, "more"), reader.at(key, False))
