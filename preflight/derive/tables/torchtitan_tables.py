"""launchers/torchtitan/table.json: one torchtitan's keys, defaults, models and (from 0.3) configs, beside the older ones.

PYTHONPATH may name the unpacked wheel. Every model is built on the meta device and its parameters counted: a config
is kept only where preflight counts the same.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from preflight.derive.target import Files, Say, read
from preflight.models import describe
from preflight.models.registry import all_models, own_names
from preflight.versions.boundary import release
from preflight.versions.installed import installed_versions
from preflight.versions.torchtitan import CONFIGS_ARE_PYTHON

PATH = "preflight/launchers/torchtitan/table.json"
FAMILIES = (
    "models.llama3",
    "models.llama4",
    "models.qwen3",
    "models.deepseek_v3",
    "models.gpt_oss",
    "experiments.llama4",
)
LLAMA3_VOCABULARY = 128256
"""0.1.0 takes the vocabulary from the tokenizer (train.py:131 model_args.update_from_config)."""
SECTIONS = (
    "training", "parallelism", "activation_checkpoint", "compile", "optimizer", "model", "validation", "experimental",
    "job", "float8",
)  # fmt: skip
"""Sections whose defaults a plan may need."""


def derive(version: str) -> dict[str, Any]:
    """Return the tables of the torchtitan that is on sys.path."""
    found: dict[str, Any] = {"models": {}}
    has_files = release(version) < CONFIGS_ARE_PYTHON.release
    if has_files:
        found["keys"], found["defaults"] = _job_config()
    else:
        found["configs"] = {}
    for path in FAMILIES:
        family = path.rsplit(".", 1)[-1]
        try:
            module = importlib.import_module(f"torchtitan.{path}")
        except ImportError:
            continue
        if has_files:
            for flavor, model, arguments in _flavors(module, family):
                found["models"].setdefault(family, {})[flavor] = _model(
                    family, flavor, model, _sizes_of_arguments(arguments)
                )
        else:
            found["configs"][family] = dict(_configs(family, found))
    return found


def _job_config() -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        owner = importlib.import_module("torchtitan.config")
    except ImportError:
        owner = importlib.import_module("torchtitan.config_manager")
    job = owner.JobConfig()
    keys = {f.name: _names(getattr(job, f.name)) for f in dataclasses.fields(job)}
    values = dataclasses.asdict(job)
    return keys, {name: values[name] for name in SECTIONS if name in values}


def _names(section: Any) -> list[str]:
    """Return the keys of a section; `outer.inner` for what is nested."""
    names: list[str] = []
    for field in dataclasses.fields(section):
        inner = getattr(section, field.name)
        if dataclasses.is_dataclass(inner):
            names += [f"{field.name}.{name}" for name in _names(inner)]
        else:
            names.append(field.name)
    return names


def _flavors(module: Any, family: str) -> Iterator[tuple[str, Any, Any]]:
    import torch

    spec = module.get_train_spec() if hasattr(module, "get_train_spec") else None
    if spec is None:
        registry = importlib.import_module("torchtitan.protocols.train_spec")
        spec = registry.get_train_spec(family)
    table = getattr(spec, "model_args", None) or spec.config
    for flavor, arguments in table.items():
        if getattr(arguments, "vocab_size", 0) == -1:
            arguments = dataclasses.replace(arguments, vocab_size=LLAMA3_VOCABULARY)
        if family == "deepseek_v3":
            arguments.moe_impl = "standard"  # update_from_config sets it (model/args.py, 0.2.2)
        with torch.device("meta"):
            cls = getattr(spec, "model_cls", None) or spec.cls
            yield flavor, cls(arguments), arguments


def _sizes_of_arguments(a: Any) -> dict[str, Any]:
    """Return the sizes of a dense model's arguments as keys of a config.json."""
    inner = getattr(a, "hidden_dim", None)
    if inner is None:
        inner = int(2 * 4 * a.dim / 3)
        inner = int((getattr(a, "ffn_dim_multiplier", None) or 1) * inner)
        multiple = getattr(a, "multiple_of", 256)
        inner = multiple * ((inner + multiple - 1) // multiple)
    return {
        "hidden_size": a.dim,
        "num_hidden_layers": a.n_layers,
        "num_attention_heads": a.n_heads,
        "num_key_value_heads": getattr(a, "n_kv_heads", None) or a.n_heads,
        "head_dim": getattr(a, "head_dim", None) or a.dim // a.n_heads,
        "intermediate_size": inner,
        "vocab_size": a.vocab_size,
        "tie_word_embeddings": bool(getattr(a, "enable_weight_tying", False)),
    }


def _sizes_of_config(config: Any) -> dict[str, Any]:
    """Return the same of a 0.3 config, whose layers are written out."""
    first = config.layers[0]
    attention, inner = first.attention, getattr(first.feed_forward, "w1", None)
    heads = attention.n_heads
    return {
        "hidden_size": config.dim,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": heads,
        "num_key_value_heads": getattr(attention, "n_kv_heads", None) or heads,
        "head_dim": getattr(attention, "head_dim", None) or config.dim // heads,
        "intermediate_size": getattr(inner, "out_features", 0),
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": bool(getattr(config, "enable_weight_tying", False)),
        **_of_experts(config),
    }


def _of_experts(config: Any) -> dict[str, Any]:
    """Return what a mixture has beside those, as transformers' type with the same attention and router has it."""
    last = config.layers[-1]
    moe, attention = getattr(last, "moe", None), last.attention
    if moe is None:
        return {}
    inner = moe.routed_experts.inner_experts
    sizes = {"moe_intermediate_size": inner.hidden_dim, "num_experts_per_tok": moe.router.top_k}
    if not hasattr(attention, "kv_lora_rank"):
        sparse = {"num_experts": inner.num_experts, "decoder_sparse_step": 1, "mlp_only_layers": []}
        return {"model_type": "qwen3_moe", "intermediate_size": inner.hidden_dim, **sizes, **sparse}
    ranks = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    shared = moe.shared_experts
    return {
        "model_type": "deepseek_v2" if moe.router.score_func == "softmax" else "deepseek_v3",
        **sizes,
        **{name: getattr(attention, name) for name in ranks},
        "head_dim": attention.qk_rope_head_dim,
        "q_lora_rank": attention.q_lora_rank or None,
        "n_routed_experts": inner.num_experts,
        "n_shared_experts": 0 if shared is None else shared.w1.out_features // inner.hidden_dim,
        "first_k_dense_replace": sum(layer.moe is None for layer in config.layers),
        "moe_layer_freq": 1,
    }


def _model(family: str, flavor: str, model: Any, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registry's model with as many parameters, else a config of the same count."""
    count = sum(p.numel() for p in model.parameters())
    head: Any = getattr(model, "output", None)
    is_untied = head is not None and head.weight is not model.tok_embeddings.weight
    if sizes["tie_word_embeddings"] and is_untied:  # init_weights ties them
        count -= head.weight.numel()
    best, score = None, 0.0
    for entry in all_models():
        config = entry.config.get("text_config") or entry.config
        same_width = config.get("hidden_size") == sizes["hidden_size"]
        if not same_width or abs(entry.num_params - count) > count // 1000:
            continue
        for alias in own_names()[entry.id]:
            name = alias.rsplit("/", 1)[-1]
            likeness = difflib.SequenceMatcher(
                None, f"{family}{flavor}".lower(), name.lower()
            ).ratio()
            if likeness > score:
                best, score = alias, likeness
    found: dict[str, Any] = {"num_params": count}
    if best is not None:
        return {**found, "model": best}
    kind = "qwen3" if family == "qwen3" else "llama"  # a mixture says its own
    config = {"model_type": kind, **sizes, "torch_dtype": "float32"}
    if sizes["intermediate_size"] and describe(config, "", "").num_params == count:
        found["config"] = config
    return found


def _configs(family: str, found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every function of a model's config_registry with what it returns, models kept beside."""
    import torch

    registry = importlib.import_module(f"torchtitan.models.{family}.config_registry")
    for module in list(sys.modules.values()):
        if hasattr(
            module, "has_cuda_capability"
        ):  # float8 asks for its GPU before it says anything
            setattr(module, "has_cuda_capability", lambda *needed: True)  # noqa: B010
    for name in sorted(vars(registry)):
        make = getattr(registry, name)
        if name.startswith("_") or getattr(make, "__module__", "") != registry.__name__:
            continue
        if inspect.signature(make).parameters:
            continue
        try:
            config = make()
        except (ValueError, ImportError) as error:  # float8 and friends want their GPU
            print(name, error)
            continue
        spec = config.model_spec
        models = found["models"].setdefault(family, {})
        if spec.flavor not in models:
            sizes = _sizes_of_config(spec.model)
            try:
                with torch.device("meta"):
                    built = spec.model.build()
            except (ValueError, RuntimeError, ImportError) as error:  # kernels want their GPU
                print(name, error)
            else:
                models[spec.flavor] = _model(family, spec.flavor, built, sizes)
        found.setdefault(
            "keys", {f.name: _keys(config, f.name) for f in dataclasses.fields(config)}
        )
        group = config.optimizer.param_groups[0]
        checkpointing = type(config.activation_checkpoint).__qualname__.partition(".")[0]
        text = repr(spec.model)
        yield (
            name,
            {
                "flavor": spec.flavor,
                "loss": type(config.loss).__qualname__.partition(".")[0],
                "activation_checkpoint": checkpointing,
                "optimizer": {"name": group.optimizer_name, **_plain(group.optimizer_kwargs)},
                **_dispatcher(text),
                "converted": sorted(w for w in ("Float8", "LoRA", "MXFP8", "NVFP4") if w in text),
                "training": _plain(dataclasses.asdict(config.training)),
                "parallelism": _plain(dataclasses.asdict(config.parallelism)),
                "compile": dataclasses.asdict(config.compile),
            },
        )


def _dispatcher(text: str) -> dict[str, str]:
    """Return what sends tokens to experts, of a model's config as text; nothing where it is what all have."""
    found = {*re.findall(r"(\w+)TokenDispatcher\.Config", text)} - {"AllToAll", "Local"}
    return {"dispatcher": min(found)} if found else {}


def _keys(config: Any, name: str) -> list[str]:
    section = getattr(config, name)
    return _names(section) if dataclasses.is_dataclass(section) else []


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if isinstance(v, (str, int, float, bool)) or v is None}


def files(say: Say) -> Files:
    """Yield the file with the rows of the installed release new."""
    version = installed_versions(("torchtitan",))["torchtitan"]
    tables = {**json.loads(read(PATH) or "{}"), version: derive(version)}
    yield PATH, json.dumps(tables, separators=(",", ":"), sort_keys=True) + "\n"
