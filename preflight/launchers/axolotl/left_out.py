"""What axolotl's keys, plugins and model configs change in memory and the plan cannot hold; each is named."""

from __future__ import annotations

from preflight.launchers.axolotl.keys import axolotl_table, listed_plugins
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Setting
from preflight.unpriced_names import (
    BESIDE_ADAPTER,
    FLOAT8,
    FROZEN,
    GENERATES_BESIDE,
    OTHERS_QAT,
    OWN_LOSS,
    PACKED_EXPERTS,
    QUANTIZED_WIDELY,
    SCATTERED,
)
from preflight.versions.axolotl import REBUILDS_UNPACKED
from preflight.versions.boundary import OLDEST, has_begun

NOT_MODELLED: dict[str, NotModelled] = {
    "lisa_n_layers": NotModelled(
        "LISA trains a few layers at a time: the estimate is for all of them", "LISA", "less"
    ),
    "relora": NotModelled("ReLoRA is estimated as LoRA", "ReLoRA", "either"),
    "unfrozen_parameters": NotModelled(
        "the estimate trains every parameter, not the unfrozen ones alone",
        FROZEN,
        "less",
    ),
    "spectrum_top_fraction": NotModelled(
        "the estimate trains every parameter, not Spectrum's choice alone",
        FROZEN,
        "less",
    ),
    "layer_offloading": NotModelled(
        "layer_offloading is estimated as if it were off", "layer offloading", "less"
    ),
    "peft_layers_to_transform": NotModelled(
        "the adapter is estimated on every layer", "an adapter on some layers", "less"
    ),
    "peft_layer_replication": NotModelled(
        "the adapter is estimated on the layers of the checkpoint", "replicated layers", "more"
    ),
    "lora_target_parameters": NotModelled(
        "the adapter is estimated on modules, not on lora_target_parameters",
        "an adapter on parameters",
        "either",
    ),
    # peft/tuners/trainable_tokens/layer.py get_merged_weights (0.21.2): index_copy makes another embedding
    "peft_trainable_token_indices": NotModelled(
        "the embedding that rows are put into, and its gradient, are not counted",
        BESIDE_ADAPTER,
        "more",
    ),
    "llama4_linearized_experts": NotModelled(
        "experts are estimated as stacks, not as linear layers that are packed",
        PACKED_EXPERTS,
        "less",
    ),
    "do_bench_eval": NotModelled(
        "answers that an evaluation compares are not counted", GENERATES_BESIDE, "more"
    ),
    "deepcompile": NotModelled(
        "what DeepSpeed compiles is estimated as if it were not", "DeepCompile", "either"
    ),
    "lora_rank_pattern": NotModelled(
        "the adapter is estimated with one rank", "a rank pattern", "either"
    ),
    "model_quantization_config": NotModelled(
        "the base is estimated in the dtype that it is loaded in", "a quantized base", "less"
    ),
    "fp8": NotModelled(
        "fp8 matrices are estimated as the 16-bit ones that they are made from",
        FLOAT8,
        "either",
    ),
    "fp32_norms": NotModelled(
        "norms are estimated in the dtype that the model is loaded in", "norms in fp32", "more"
    ),
    "tiled_mlp": NotModelled(
        "the feed-forward's intermediate is estimated whole, not in tiles",
        "a tiled feed-forward",
        "less",
    ),
    "auto_find_batch_size": NotModelled(
        "the micro batch is estimated as it stands, and auto_find_batch_size may halve it",
        "auto_find_batch_size",
        "less",
    ),
    "use_ray": NotModelled("Ray's workers are estimated as the launcher's ranks"),
    "use_onebitllms": NotModelled(
        "layers are estimated as they are loaded, not as BitNet's", "BitNet's layers", "either"
    ),
    "use_eaft": NotModelled("EAFT's loss is estimated as the language model's", OWN_LOSS, "either"),
    "trainer_cls": NotModelled(
        "the estimate is for axolotl's own trainer", "a trainer of its own", "either"
    ),
    "do_causal_lm_eval": NotModelled(
        "answers that an evaluation generates are not counted",
        GENERATES_BESIDE,
        "more",
    ),
    "generate_samples": NotModelled(
        "samples that are generated while it trains are not counted",
        GENERATES_BESIDE,
        "more",
    ),
}
"""Keys whose effect on memory the plan cannot hold -> what the estimate does instead."""
KNOWN_PLUGINS = frozenset(
    {"cut_cross_entropy", "liger", "spectrum", "lm_eval", "swanlab", "expert_parallel"}
)
"""axolotl's integrations that change nothing in memory, or whose keys say what (axolotl/integrations, 0.19.0); `kernels`
runs experts one by one where it has no kernel of its own for them."""
SHAPE_FREE = frozenset(
    {
        "rope_scaling", "rope_theta", "rope_parameters", "max_position_embeddings", "use_cache", "initializer_range",
        "attention_dropout", "hidden_dropout", "bos_token_id", "eos_token_id", "pad_token_id", "sliding_window",
    }
)  # fmt: skip
"""Entries of a model's config that change no tensor's shape."""


def name_left_out(keys: FrameworkKeys) -> None:
    """Name everything that a config turns on and the estimate does not hold."""
    scattered = _scattered(keys)
    _plugins(keys, () if scattered is None else (KERNELS_PLUGIN,))
    _model_config(keys)
    _longer_evaluation(keys)
    _quantized(keys)
    if scattered is None:
        _experts(keys)
        keys.leave_out_given(NOT_MODELLED)
        return
    message = "experts that scattermoe runs, and adapters on them, are bounded, and counted in no finer way"
    keys.leave_out(NotModelled(message, SCATTERED, "either"), scattered)
    keys.leave_out_given({k: v for k, v in NOT_MODELLED.items() if k != ON_STACKS})


KERNELS_PLUGIN = "axolotl.integrations.kernels.KernelsPlugin"
ON_STACKS = "lora_target_parameters"
SCATTERED_KEYS = frozenset(
    {"use_scattermoe", "expert_backend", "moe_dequant_chunk_size", "moe_bnb_fast"}
)
"""Keys of the plugin's that scattermoe is bounded with; others change what runs (integrations/kernels/args.py, 0.18.0)."""
STACKS = ("experts.gate_up_proj", "experts.down_proj")


def _scattered(keys: FrameworkKeys) -> Setting | None:
    """Return what asks for scattermoe over packed experts, where the plugin does nothing else; None elsewhere."""
    asked = keys.get("use_scattermoe", "expert_backend")
    base = keys.settings.get("base_quantization")
    if asked is None or asked.value not in (True, "scattermoe") or base is None:
        return None
    is_packed = base.value.experts and KERNELS_PLUGIN in listed_plugins(keys)
    others = (n for n in axolotl_table()["plugin_keys"]["kernels"] if n not in SCATTERED_KEYS)
    is_alone = not any(keys.value(name) for name in others)
    is_alone &= keys.value("experts_implementation") in (None, "scattermoe")
    names = keys.value(ON_STACKS) or ()
    on_stacks = all(f".{name}".endswith(tuple(f".{stack}" for stack in STACKS)) for name in names)
    is_known = has_begun(REBUILDS_UNPACKED, keys.library.versions, OLDEST)
    return asked if is_packed and is_alone and on_stacks and is_known else None


def _plugins(keys: FrameworkKeys, counted: tuple[str, ...]) -> None:
    """Name the plugins that may replace the trainer, the loss or parts of the model."""
    listed = keys.get("plugins")
    if listed is None:
        return
    for name in listed_plugins(keys):
        package, _, integration = name.partition("integrations.")
        if name in counted:
            continue
        if package != "axolotl." or integration.partition(".")[0] not in KNOWN_PLUGINS:
            message = f"what {name} does to the training is not counted"
            keys.leave_out(NotModelled(message, f"the plugin {name}", "either"), listed)


def _model_config(keys: FrameworkKeys) -> None:
    """Name entries of the model's config that the launch gives another value and that may give it another shape."""
    given = keys.get("overrides_of_model_config")
    names = {*given.value} - SHAPE_FREE if given is not None and isinstance(given.value, dict) else ()  # fmt: skip
    if given is not None and names:
        message = f"the model is estimated as its checkpoint has it, without {', '.join(sorted(map(str, names)))}"
        keys.leave_out(NotModelled(message, "a model of another shape", "either"), given)


def _experts(keys: FrameworkKeys) -> None:
    """Name another way to run experts than the grouped product that transformers takes unasked."""
    asked = keys.get("experts_implementation")
    if asked is not None and asked.value not in (None, "grouped_mm"):
        message = f"experts are estimated as one grouped product, not as {asked.value}"
        keys.leave_out(NotModelled(message, "fused kernels", "either"), asked)


FORMATS = frozenset(
    {
        ("int8", "int4"), (None, "int4"), ("float8_e4m3fn", "float8_e4m3fn"), ("float8_e4m3fn", "int4"), ("mxfp4", "mxfp4"),
    }
)  # fmt: skip
"""Formats of inputs and weights of `qat` that tests/formulas/fake_quantized.jsonl counts, in groups of 32."""
FLOAT8_NAMES = dict.fromkeys(("fp8", "float8"), "float8_e4m3fn")
"""Spellings that axolotl takes (utils/schemas/quantization.py validate_ao_dtype, 0.19.0)."""


def _quantized(keys: FrameworkKeys) -> None:
    """Name the copies that quantization-aware training makes: of the linear layers, in a format that was counted or not."""
    given = keys.get("qat")
    if given is None or not given.value:
        return
    section = given.value if isinstance(given.value, dict) else {}
    names = [section.get(f"{part}_dtype") for part in ("activation", "weight")]
    of_inputs, of_weights = (FLOAT8_NAMES.get(str(name), name) for name in names)
    group = section.get("group_size", 32)
    is_counted = (of_inputs, of_weights) in FORMATS and (group is None or group in range(32, 1025))
    name = QUANTIZED_WIDELY if is_counted and not section.get("quantize_embedding") else OTHERS_QAT
    message = "quantization-aware training is estimated without its fake-quantized copies"
    keys.leave_out(NotModelled(message, name, "more"), given)


def _longer_evaluation(keys: FrameworkKeys) -> None:
    """Name rows of an evaluation that are cut later than those of training."""
    longer, usual = keys.count("eval_sequence_len"), keys.count("sequence_len")
    if longer is not None and usual is not None and longer.value > usual.value:
        message = "rows of an evaluation are estimated as long as those of training"
        keys.leave_out(NotModelled(message, "an evaluation of longer rows", "more"), longer)
