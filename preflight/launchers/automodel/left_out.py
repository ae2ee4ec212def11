"""What a recipe of Automodel's switches on that no formula holds, and what of it is not read.

Source: recipes/llm/train_ft.py and components/distributed/config.py of nemo-automodel 0.7.0.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Setting
from preflight.unpriced_names import FLOAT8, FLOAT8_HEAD

SWITCHES = {
    "qat.enabled": NotModelled("fake quantization is not estimated", "fake quantization", "either"),
    "autopipeline._target_": NotModelled(
        "its own pipeline is not estimated", "pipeline stages", "either"
    ),
    "parallelizer._target_": NotModelled(
        "a parallelizer of one's own is not estimated", "a parallelizer of one's own", "either"
    ),
    "model.num_nextn_predict_layers": NotModelled(
        "layers that predict further tokens are not counted", "multi-token prediction", "more"
    ),
    "distributed.offload_policy._target_": NotModelled(
        "what is kept on the host is estimated on the device", "offloaded states", "less"
    ),
}
ANY = ("*",)
READ: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("recipe", "step_scheduler", "dataset", "dataloader", "validation_dataset", "validation_dataloader", "optimizer",
         "packed_sequence", "clip_grad_norm", "lr_scheduler", "checkpoint", "dist_env", "rng", "seed", "tokenizer", "compile",
         "benchmark", "ci", "wandb", "mlflow", "comet", "nvtx", "nproc-per-node", "nproc_per_node",
         "fp8", *(name.partition(".")[0] for name in SWITCHES if not name.startswith(("model.", "distributed.")))),
        ANY,
    ),
    "model": (
        "_target_", "pretrained_model_name_or_path", "config", "torch_dtype", "dtype", "attn_implementation", "backend",
        "force_hf", "trust_remote_code", "use_liger_kernel", "use_sdpa_patching", "output_hidden_states", "load_base_model", "num_nextn_predict_layers",
    ),
    "distributed": (
        "_target_", "strategy", "dp_size", "dp_replicate_size", "tp_size", "cp_size", "pp_size", "ep_size", "pipeline", "moe",
        "sequence_parallel", "activation_checkpointing", "config", "mp_policy", "defer_fsdp_grad_sync", "offload_policy",
        "reshard_after_forward", "enable_compile", "enable_fsdp2_prefetch", "patch_is_packed_sequence",
    ),
    "loss_fn": ("_target_", "fp32_upcast", "chunk_len", "compile", "ignore_index", "reduction"),
    "peft": (
        "_target_", "dim", "alpha", "dropout", "target_modules", "exclude_modules", "match_all_linear", "use_dora",
        "use_triton", "use_memory_efficient_lora", "moe_rank_scaling",
    ),
    "quantization": (
        "load_in_4bit", "load_in_8bit", "bnb_4bit_use_double_quant", "bnb_4bit_compute_dtype", "bnb_4bit_quant_type",
    ),
}  # fmt: skip
"""Section of a recipe -> its keys that are read, or that memory does not depend on."""


def row_length(keys: FrameworkKeys, section: str) -> Setting | None:
    """Return how long rows of a dataset are at most: made-up and joined ones are as long as it says, and others are cut where
    truncation is on (components/datasets/llm/*.py, 0.4 to 0.7: `truncation: str | bool = "do_not_truncate"`)."""
    is_cut = keys.value(f"{section}.truncation", False) not in (False, "do_not_truncate")
    is_joined = str(keys.value(f"{section}._target_")).endswith("MegatronPretraining")
    if is_cut or is_joined:
        return keys.count(f"{section}.seq_length")
    return keys.count(f"{section}.seq_len")


def name_unread(keys: FrameworkKeys) -> None:
    """Name what is not estimated: switches that are on, what a recipe says that is not read, and validation rows that may
    be more than those of the training, or longer."""
    keys.leave_out_given(SWITCHES)
    leaves_head = "lm_head" in (keys.value("fp8.filter_fqns") or ())
    message = "float8 layers are estimated as the 16-bit ones that they stand for"
    float8 = NotModelled(message, FLOAT8 if leaves_head else FLOAT8_HEAD, "either")
    keys.leave_out_given({"fp8.enabled": float8})  # torchao's (components/quantization/fp8.py)
    for name, setting in keys.given.items():
        section, _, key = name.partition(".")
        if READ.get(section, ()) is not ANY and key.partition(".")[0] not in READ.get(section, ()):
            message = f"what {name} does is not read"
            keys.leave_out(NotModelled(message, f"{section} of a recipe", "either"), setting)
    validation = keys.get("validation_dataset._target_")
    if validation is not None and "seq_len" in keys.settings:
        length = row_length(keys, "validation_dataset")
        if length is None or length.value > keys.settings["seq_len"].value:
            message = "rows of the validation may be longer than the training's, and no forward of it is estimated"
            keys.leave_out(NotModelled(message, "rows of the validation", "more"), validation)
    trained = keys.settings.get("micro_batch_size")
    for name in ("validation_dataloader.batch_size", "dataloader.batch_size", "dataset.batch_size"):
        rows = keys.count(name)
        if rows is not None and (trained is None or rows.value > trained.value):
            message = f"{name} is more than step_scheduler.local_batch_size, which is estimated"
            what = "rows of the validation" if name.startswith("validation") else "rows of a batch"
            keys.leave_out(NotModelled(message, what, "more"), rows)
    handed_on = keys.get("distributed.mp_policy.output_dtype")
    if handed_on is not None and str(handed_on.value).rpartition(".")[2] not in (
        "bfloat16",
        "bf16",
    ):
        message = "layers hand on what they compute in another dtype, which is not estimated"
        keys.leave_out(NotModelled(message, "the dtype between layers", "more"), handed_on)
