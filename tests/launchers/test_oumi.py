"""oumi's launches, held against what its own config makes of them.

oumi is not installed for the tests: its answers are kept in tests/configs/oumi/asked.json, written by ask_oumi.py from the
wheel of 0.9.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from framework_launches import CONFIGS, cases_of, plan_of_case, plan_of_words

import preflight
from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.launchers.oumi import LAUNCHER
from preflight.verdict import Answer

FOLDER = CONFIGS / "oumi"
CASES = cases_of("oumi")
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
OPTIMIZERS = {
    "adamw_torch": ("adamw_torch", "deepspeed_cpu_adam"),
    "adamw_torch_fused": ("adamw_torch_fused",),
}
DTYPES = {"torch.bfloat16": "bf16", "torch.float32": "fp32"}


def read(words: str, folder: Path = FOLDER, **env: str) -> LaunchPlan | None:
    return plan_of_words(LAUNCHER.read, words, folder, env)


def of_case(name: str) -> LaunchPlan:
    return plan_of_case(LAUNCHER.read, CASES[name], FOLDER)


@pytest.mark.parametrize("name", CASES)
def test_model_batch_length_and_optimizer_are_what_oumi_hands_on(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)
    given = theirs["arguments"]

    assert plan.model == theirs["model"] and plan.load_dtype == DTYPES[theirs["dtype"]]
    assert plan.micro_batch_size == given["per_device_train_batch_size"]
    assert plan.gradient_accumulation_steps == given["gradient_accumulation_steps"]
    assert plan.optimizer in OPTIMIZERS[given["optim"]]
    assert plan.max_grad_norm == given["max_grad_norm"]
    assert plan.torch_compile == given["torch_compile"]
    assert bool(plan.kernels) == given.get("use_liger_kernel", False)
    if "max_length" in given:
        assert plan.seq_len == given["max_length"]


@pytest.mark.parametrize("name", CASES)
def test_the_engine_is_what_its_variables_and_its_deepspeed_say(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)
    env, config = theirs["variables"], theirs["arguments"].get("deepspeed")

    checkpoints = env.get("FSDP_ACTIVATION_CHECKPOINTING") == "true"
    assert (plan.activation_checkpointing == "full") == (
        checkpoints or theirs["arguments"]["gradient_checkpointing"]
    )
    if env:
        assert plan.engine == "fsdp1"
        assert plan.reshard_after_forward == (env["FSDP_SHARDING_STRATEGY"] == "FULL_SHARD")
        assert plan.wrap_classes == (env["FSDP_TRANSFORMER_CLS_TO_WRAP"],)
        assert plan.mixed_precision == env["ACCELERATE_MIXED_PRECISION"]
        return
    if config is not None:
        zero = config["zero_optimization"]
        assert plan.engine == f"zero{zero['stage']}"
        assert plan.offload_optimizer == zero["offload_optimizer"]["device"]
        for key in ("overlap_comm", "reduce_bucket_size", "sub_group_size"):
            assert key not in zero or getattr(plan.deepspeed, key) == zero[key]
        assert plan.deepspeed.offload_pin_memory == zero["offload_optimizer"]["pin_memory"]
        return
    assert plan.engine == ("ddp" if plan.world_size > 1 else "single")


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_and_its_base_are_what_peft_is_given(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)
    lora, base = theirs["lora"], theirs["base"]

    assert (plan.adapter is None) == (lora is None)
    if plan.adapter is not None:
        assert (plan.adapter.rank, plan.adapter.alpha) == (lora["rank"], lora["alpha"])
        assert plan.adapter.dropout == lora["dropout"]
        targets = plan.adapter.targets
        assert (targets if isinstance(targets, str) else sorted(targets or ())) == lora["modules"]
    assert (plan.base_quantization is None) == (base is None)
    if plan.base_quantization is not None:
        assert plan.base_quantization.scheme == base["bnb_4bit_quant_type"]
        assert plan.base_quantization.double_quant == base["bnb_4bit_use_double_quant"]
        # prepare_model_for_kbit_training stands before the trainer
        assert plan.base_quantization.upcast_unquantized_to_fp32 == "all"


@pytest.mark.parametrize(
    ("words", "env", "ranks", "engine"),
    [
        ("oumi distributed torchrun -m oumi train -c grpo.yaml", {}, 1, "ddp"),
        ("oumi distributed torchrun -m oumi train -c grpo.yaml", {"CUDA_VISIBLE_DEVICES": "0,1"}, 2, "ddp"),
        ("oumi distributed torchrun -m oumi train -c grpo.yaml", {"CUDA_VISIBLE_DEVICES": "0"}, 1, "single"),
        ("oumi distributed torchrun --nproc-per-node 4 -m oumi train -c grpo.yaml", {}, 4, "ddp"),
        ("oumi distributed accelerate launch -m oumi train -c grpo.yaml", {"CUDA_VISIBLE_DEVICES": "0,1"}, 2, "ddp"),
        ("oumi distributed torchrun -m oumi train -c grpo.yaml",
         {"SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "a\nb", "SKYPILOT_NUM_GPUS_PER_NODE": "8"}, 16, "ddp"),
    ],
)  # fmt: skip
def test_oumi_starts_a_rank_per_gpu_of_every_node(words, env, ranks, engine) -> None:
    plan = read(words, **env)

    assert plan is not None and (plan.world_size, plan.engine) == (ranks, engine)
    is_open = bool(plan.origins["world_size"].may_be) if "world_size" in plan.origins else False
    assert is_open == (not env and "--nproc" not in words)


def test_ranks_that_nobody_counted_are_several_where_fsdp_shards() -> None:
    """One process alone sets up no FSDP: what it holds is no end of the sharded ones."""
    plan = read("oumi distributed torchrun -m oumi train -c full.yaml")

    assert plan is not None and plan.world_size == 2
    assert min(plan.origins["world_size"].may_be) == 2


@pytest.mark.parametrize(
    ("text", "kind", "length"),
    [
        ("training: {trainer_type: TRL_SFT}", "padded", None),
        ("training: {trainer_type: HF}", "padded", None),
        ("training: {trainer_type: TRL_SFT}\ndata: {train: {pack: true}}", "fixed", 1024),
        ("training: {trainer_type: TRL_SFT}\ndata: {train: {pack: true, use_torchdata: true}}", "padded", None),
    ],
)  # fmt: skip
def test_rows_that_oumi_makes_tokens_of_are_cut_where_it_says_so(tmp_path, text, kind, length):
    (tmp_path / "c.yaml").write_text(f"model: {{model_name: Qwen/Qwen2.5-0.5B}}\n{text}\n")
    plan = read("oumi train -c c.yaml", tmp_path)

    assert plan is not None and plan.seq_len == length
    assert plan.sequence_kind in (kind, None)


@pytest.mark.parametrize(
    ("text", "unpriced"),
    [
        ("model: {model_name: m, freeze_layers: [model.layers.0]}", "frozen parameters"),
        ("model: {model_name: m, model_kwargs: {num_hidden_layers: 2}}", "a model of another shape"),
        ("model: {model_name: tiiuae/Falcon-E-1B-Base}", "layers of onebitllms"),
        ("training: {use_peft: true}\npeft: {lora_exclude_modules: [.*tower.*]}", "modules without LoRA"),
        ("training: {use_peft: true}\npeft: {lora_bias: all}", "biases"),
        ("training: {trainer_type: OUMI}", "a launch that was not read"),
        ("training: {trainer_type: VERL_GRPO}", "a launch that was not read"),
    ],
)  # fmt: skip
def test_what_is_not_priced_is_named(tmp_path, text, unpriced) -> None:
    (tmp_path / "c.yaml").write_text(f"{text}\n")
    plan = read("oumi train -c c.yaml", tmp_path)

    assert plan is not None and unpriced in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("oumi train -c full.yaml stray", "stray"),
        ("oumi train -c packed.yaml --model.torch_dtype_str bfloat16", "fp32"),
        ("oumi train -c packed.yaml --fsdp.enable_fsdp true", "not both"),
        ("oumi train -c full.yaml --model.torch_dtype_str int4", "int4"),
    ],
)
def test_what_oumi_stops_at_is_refused(words, said) -> None:
    with pytest.raises(BadInput, match=said):
        read(words)


@pytest.mark.parametrize(
    "words", ["oumi train", "oumi train -c llama3.1-8b-sft", "oumi train -c oumi://configs/a.yaml"]
)
def test_a_config_that_is_not_here_is_no_bad_input(words) -> None:
    report = preflight.check(words.split(), device="H100", cwd=FOLDER, env={})

    assert report.verdict.answer is Answer.UNKNOWN
    assert {notice.id for notice in report.plan.notices} == {"PF125"}


@pytest.mark.parametrize(
    "words",
    [
        "oumi infer -c full.yaml",
        "oumi evaluate -c full.yaml",
        "oumi distributed torchrun train.py",
        "echo oumi",
    ],
)
def test_other_commands_are_left_alone(words) -> None:
    assert read(words) is None


def test_a_key_of_no_release_is_named_and_beats_nothing(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("training: {per_device_batch_size: 2}\n")
    plan = read("oumi train -c c.yaml", tmp_path)

    assert plan is not None and plan.micro_batch_size == 8
    (problem,) = (notice for notice in plan.notices if notice.id == "PF141")
    assert "per_device_batch_size" in problem.message


@pytest.mark.parametrize(("env", "is_named"), [({}, True), ({"CUDA_VISIBLE_DEVICES": "0"}, False)])
def test_one_process_that_may_see_several_gpus_may_hold_less_of_the_model(env, is_named) -> None:
    plan = read("oumi train -c grpo.yaml", **env)

    assert plan is not None
    divided = [one for one in plan.notices if one.unpriced.startswith("a model divided")]
    assert [one.takes for one in divided] == ["less"] * is_named


def test_null_is_none_and_no_default(tmp_path) -> None:
    model = "model: {model_name: Qwen/Qwen2.5-0.5B, device_map: null}"
    (tmp_path / "c.yaml").write_text(f"{model}\ntraining: {{trainer_type: TRL_SFT}}\n")
    plan = read("oumi train -c c.yaml", tmp_path)

    assert plan is not None
    assert not [one for one in plan.notices if one.unpriced.startswith("a model divided")]


FSDP = "--fsdp.enable_fsdp true --fsdp.auto_wrap_policy TRANSFORMER_BASED_WRAP"


def test_a_packed_base_under_fsdp_is_all_of_the_models_dtype() -> None:
    """coerce_model_to_dtype comes behind PEFT's preparation, and takes the adapter with it."""
    storage = "--peft.bnb_4bit_quant_storage bfloat16"
    words = f"torchrun --nproc-per-node 4 -m oumi train -c qlora.yaml {FSDP}"
    plan = read(f"{words} {storage}")

    assert plan is not None and plan.adapter is not None and plan.base_quantization is not None
    assert plan.adapter.dtype == "bf16"
    assert plan.base_quantization.upcast_unquantized_to_fp32 == "none"
    with pytest.raises(BadInput, match="bnb_4bit_quant_storage"):
        read(words)
