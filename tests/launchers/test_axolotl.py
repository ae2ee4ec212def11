"""axolotl's launches: read as the manifest says, refused where axolotl refuses, and written back.

axolotl itself pins other versions of torch and transformers than the tests have, so its answers are kept
in tests/configs/axolotl/asked.json, written by ask_axolotl.py from axolotl 0.19.0.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from framework_launches import CONFIGS, EIGHT, Rewritten, cases_of, command_of

from preflight.errors import BadInput
from preflight.formulas.limits.left_out import with_left_out
from preflight.launch import Adapter, BaseQuantization, LaunchCommand, LaunchPlan
from preflight.launchers.axolotl import LAUNCHER
from preflight.launchers.axolotl.adapter import pattern_names
from preflight.launchers.axolotl.keys import axolotl_table, option_of
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.unpriced_names import OTHERS_QAT, QUANTIZED_WIDELY

FOLDER = CONFIGS / "axolotl"
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 128,
    "intermediate_size": 128,
}  # fmt: skip
CASES = cases_of("axolotl")
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
SETTLED = {name: said for name, said in ASKED.items() if "refused" not in said}


def plan_of(config: str) -> LaunchPlan:
    """Return the plan of `axolotl train CONFIG` on as many ranks as its degrees multiply to."""
    ranks = "16" if config == "hsdp_cp.yaml" else "8"
    argv = ("axolotl", "train", config, "--num-processes", ranks)
    plan = LAUNCHER.read(LaunchCommand(argv, EIGHT, str(FOLDER)))
    assert plan is not None
    return plan


@pytest.mark.parametrize("config", ASKED)
def test_what_axolotl_refuses_is_refused_and_nothing_else(config: str) -> None:
    """A placeholder is no value yet: axolotl refuses it, and preflight waits."""
    if "refused" not in ASKED[config]:
        plan_of(config)
        return
    if config == "templated.yaml":
        assert {notice.id for notice in plan_of(config).notices} == {"PF142"}
        return

    with pytest.raises(BadInput) as refused:
        plan_of(config)
    assert {p.id for p in refused.value.problems if p.severity == "error"} == {"PF141"}


@pytest.mark.parametrize("config", SETTLED)
def test_a_plan_agrees_with_what_axolotl_settles_on(config: str) -> None:
    theirs, plan = SETTLED[config], plan_of(config)
    fsdp = theirs.get("fsdp_config", {})

    assert plan.model == theirs["base_model"]
    assert plan.seq_len == theirs["sequence_len"]
    assert plan.micro_batch_size == theirs["micro_batch_size"]
    assert plan.gradient_accumulation_steps == theirs["gradient_accumulation_steps"]
    assert plan.is_fsdp == bool(fsdp)
    if fsdp:
        assert plan.engine == f"fsdp{theirs['fsdp_version']}"
        assert (plan.offload_params == "cpu") == fsdp.get("offload_params", False)
        assert plan.reshard_after_forward is fsdp.get("reshard_after_forward", True)
    assert (plan.zero_stage is not None) == ("deepspeed" in theirs)
    assert (plan.offload_activations == "cpu") == bool(theirs["activation_offloading"])
    recomputes = theirs["gradient_checkpointing"] or fsdp.get("activation_checkpointing", False)
    replaced = theirs["activation_offloading"] and "adapter" in theirs
    assert (plan.activation_checkpointing != "none") == (recomputes and not replaced)
    assert (plan.adapter is not None) == ("adapter" in theirs)
    if plan.adapter is not None:
        assert (plan.adapter.rank, plan.adapter.alpha) == (theirs["lora_r"], theirs["lora_alpha"])
        assert (plan.adapter.targets == "all-linear") == theirs.get("lora_target_linear", False)
    quantized = theirs["load_in_4bit"] or theirs["load_in_8bit"]
    assert (plan.base_quantization is not None) == quantized
    name = theirs.get("attn_implementation", "sdpa").replace("kernels-community/flash-attn", "f")
    assert plan.attention == name.replace("f3", "flash_attention_3")
    if theirs.get("sample_packing"):
        fixed = theirs["pad_to_sequence_len"]
        assert plan.sequence_kind == ("fixed" if fixed else "packed")
    assert (plan.mixed_precision == "fp16") == theirs.get("fp16", False)
    if plan.zero_stage is None or plan.offload_optimizer == "none":
        assert plan.optimizer == theirs["optimizer"]
    assert plan.context_parallel_degree == theirs["context_parallel_size"]
    assert plan.tensor_parallel_degree == theirs["tensor_parallel_size"]
    assert plan.torch_compile == theirs.get("torch_compile", False)


def test_every_value_of_a_file_has_its_line() -> None:
    origins = plan_of("qlora_fsdp2.yaml").origins

    assert {name: origins[name].where for name in ("model", "seq_len", "adapter", "optimizer")} == {
        "model": "qlora_fsdp2.yaml:1",
        "adapter": "qlora_fsdp2.yaml:3",
        "seq_len": "qlora_fsdp2.yaml:10",
        "optimizer": "qlora_fsdp2.yaml:16",
    }
    assert origins["base_quantization"].where == "qlora_fsdp2.yaml:2"
    assert origins["engine"].where == "qlora_fsdp2.yaml:20"
    assert origins["reshard_after_forward"].where == "qlora_fsdp2.yaml:27"


def test_a_word_of_the_command_line_is_where_it_was_said() -> None:
    plan = LAUNCHER.read(command_of(CASES["fsdp2_overridden"], FOLDER))
    assert plan is not None

    assert plan.origins["reshard_after_forward"].where == "--fsdp-config.reshard-after-forward"
    assert plan.origins["offload_params"].where == "--fsdp-config.offload-params"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (
            r"model.layers.[\d]+.(mlp|self_attn).(up|down|q|k)_proj",
            ("up_proj", "down_proj", "q_proj", "k_proj"),
        ),
        (
            r"(text\.(\d+)\.attn\.(q|out)_proj|tower\.mlp\.fc[12])",
            ("q_proj", "out_proj", "fc1", "fc2"),
        ),
        (r".*\.(?:query|value)$", ("query", "value")),
        (r".*\.(q_proj|v_proj)", ("q_proj", "v_proj")),
        ("q_proj", ("q_proj",)),
    ],
)
def test_a_pattern_adapts_the_modules_that_its_names_end_with(pattern, names) -> None:
    assert pattern_names(pattern) == names


def test_a_misspelt_key_is_named_with_its_line_and_the_nearest_key() -> None:
    plan = plan_of("misspelt.yaml")
    said = {notice.where: notice.fix for notice in plan.notices}

    assert said["misspelt.yaml:6"] == "did you mean micro_batch_size"
    assert said["misspelt.yaml:16"] == "did you mean reshard_after_forward"


def test_weights_may_be_half_without_autocast(tmp_path) -> None:
    """resolve_dtype of axolotl 0.19.0 (utils/config/__init__.py:200): float16 loads fp16 and casts nothing."""
    text = "base_model: meta-llama/Llama-3.2-1B\nfloat16: true\nbf16: false\nfp16: false\n"
    rest = "sequence_len: 512\nmicro_batch_size: 1\nlearning_rate: 1e-5\ndatasets: [{path: a, type: alpaca}]\n"
    (tmp_path / "half.yaml").write_text(text + rest)
    plan = LAUNCHER.read(LaunchCommand(("axolotl", "train", "half.yaml"), EIGHT, str(tmp_path)))
    assert plan is not None

    assert (plan.load_dtype, plan.mixed_precision) == ("fp16", "no")


def test_commands_of_axolotl_that_do_not_train_are_no_launches() -> None:
    for argv in (("axolotl", "preprocess", "full.yaml"), ("axolotl", "merge-lora", "lora.yaml")):
        assert LAUNCHER.read(LaunchCommand(argv, EIGHT, str(FOLDER))) is None


def test_options_are_the_ones_of_the_command() -> None:
    """`--num-processes` is nobody's key, so it goes to the launcher; sections are taken key by key."""
    assert option_of("--num-processes") is None
    assert option_of("--fsdp-config") is None
    assert option_of("--lora-r") == ("lora_r", True, False)
    assert option_of("--no-flash-attention") == ("flash_attention", False, True)
    assert option_of("--trl.beta") == ("trl.beta", True, False)
    assert option_of("--no-trl.use-vllm") == ("trl.use_vllm", False, True)
    assert set(axolotl_table()["keys"]) >= {"base_model", "fsdp_config", "sequence_len"}


HALVED = {"micro_batch_size": 2, "gradient_accumulation_steps": 4}
CHECKPOINTED = {"activation_checkpointing": "full"}
NF4 = BaseQuantization("nf4", True, "bf16", "bf16", "none")
QLORA = {"base_quantization": NF4, "adapter": Adapter(rank=16, alpha=32, targets="all-linear")}
ROUND_TRIPS = [
    ("full", CHECKPOINTED, ["+ gradient_checkpointing: true"]),
    (
        "full",
        HALVED,
        [
            "- micro_batch_size: 4  # fits an A100",
            "+ micro_batch_size: 2  # fits an A100",
            "- gradient_accumulation_steps: 2",
            "+ gradient_accumulation_steps: 4",
            "+ eval_batch_size: 4",
        ],
    ),
    ("full", {"seq_len": 2048}, ["- sequence_len: 4096", "+ sequence_len: 2048"]),
    (
        "full",
        {"optimizer": "adamw_bnb_8bit"},
        ["- optimizer: adamw_torch_fused", "+ optimizer: adamw_bnb_8bit"],
    ),
    (
        "full",
        QLORA,
        [
            "+ adapter: qlora",
            "+ load_in_4bit: true",
            "+ lora_alpha: 32",
            "+ lora_dropout: 0.0",
            "+ lora_r: 16",
            "+ lora_target_linear: true",
        ],
    ),
    (
        "fsdp2",
        {"reshard_after_forward": True},
        [
            "-   reshard_after_forward: false  # keeps the gathered layers",
            "+   reshard_after_forward: true  # keeps the gathered layers",
        ],
    ),
    ("fsdp1", CHECKPOINTED, ["- gradient_checkpointing: false", "+ gradient_checkpointing: true"]),
    (
        "zero2",
        {"micro_batch_size": 2, "gradient_accumulation_steps": 8},
        [
            "- micro_batch_size: 4",
            "+ micro_batch_size: 2",
            "- gradient_accumulation_steps: 4",
            "+ gradient_accumulation_steps: 8",
        ],
    ),
    ("lora_modules", CHECKPOINTED, ["+ gradient_checkpointing: true"]),
]


def rewritten(name: str, edits: dict[str, Any], tmp_path: Any) -> Rewritten:
    return Rewritten(tmp_path, "axolotl", LAUNCHER.read, LAUNCHER.write, CASES[name], edits)


@pytest.mark.parametrize(("name", "edits", "lines"), ROUND_TRIPS)
def test_an_edit_is_written_where_the_value_stands(name, edits, lines, tmp_path) -> None:
    result = rewritten(name, edits, tmp_path)

    assert result.differing == ()
    assert sorted(result.changed_lines) == sorted(lines)
    (file,) = result.rewrite.files
    assert result.rewrite.argv[2] == f".preflight/{name}.yaml"
    assert (result.folder / f"{name}.yaml").read_text() == file.before


def test_a_word_of_the_command_line_is_changed_where_it_stands(tmp_path) -> None:
    edits = {"micro_batch_size": 1, "gradient_accumulation_steps": 4, "seq_len": 4096}
    result = rewritten("full_overridden", edits, tmp_path)

    assert result.differing == ()
    assert result.rewrite.argv[3:6] == ("--micro-batch-size", "1", "--sequence-len=4096")
    assert "+ gradient_accumulation_steps: 4" in result.changed_lines


def test_the_launcher_stays_in_front_of_the_module(tmp_path) -> None:
    result = rewritten("full_module", CHECKPOINTED, tmp_path)

    assert result.differing == ()
    assert " ".join(result.rewrite.argv) == (
        "accelerate launch --num_processes 4 -m axolotl.cli.train .preflight/full.yaml --micro_batch_size=1"
    )


def test_expandable_segments_are_a_variable_where_axolotls_program_does_not_set_them(
    tmp_path,
) -> None:
    result = rewritten("full_module_torchrun", {"expandable_segments": True}, tmp_path)

    assert result.differing == ()
    ((name, value),) = result.rewrite.env.items()
    assert value == "expandable_segments:True"
    assert name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # as torch's release has it


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("fsdp1", {"reshard_after_forward": False}),
        ("full", {"loss": "fused_linear"}),
        ("full", {"engine": "fsdp2", "shard_degree": 8}),
        ("offload_activations", CHECKPOINTED),
        ("zero2", {"optimizer": "adamw_bnb_8bit"}),
        ("lora", {"adapter": None}),
        ("full", {**QLORA, "base_quantization": BaseQuantization("fp4")}),
    ],
)
def test_what_axolotls_keys_cannot_say_is_not_written(name, edits, tmp_path) -> None:
    assert rewritten(name, edits, tmp_path).rewrite is None


CHECKED = {"fsdp2_int8.yaml": ("qwen3", []), "moe_linear.yaml": ("mixtral", ["PF424"])}


@pytest.mark.parametrize("config", CHECKED)
def test_what_axolotl_does_itself_is_no_error(config: str) -> None:
    """It shards int8 weights, and names linear layers one by one, so that PEFT finds no fused experts."""
    model_type, expected = CHECKED[config]
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 16}
    sizes = {**heads, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
    model = describe({"model_type": model_type, **sizes}, "tiny", "test")
    plan = plan_of(config)
    plugins = load_plugins(builtins=["check_adapter_targets", "check_quantization"])
    found = plugins.collect("preflight_findings", plan=plan, model=model, device=None)

    assert [finding.id for _, finding in found] == expected


BASE = {
    "base_model": "meta-llama/Llama-3.2-1B", "datasets": [{"path": "rows", "type": "alpaca"}], "output_dir": "out",
    "micro_batch_size": 2, "gradient_accumulation_steps": 1, "sequence_len": 1024, "bf16": True,
    "learning_rate": 1e-4, "gradient_checkpointing": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, set()),
        ({"selective_checkpointing": True}, set()),
        ({"selective_checkpointing": {"offload": True}}, {"operations that checkpointing saves"}),
        ({"trainer_cls": "mine.Trainer"}, {"a trainer of its own"}),
        ({"use_onebitllms": True}, {"BitNet's layers"}),
        ({"val_set_size": 0.1}, set()),
        ({"val_set_size": 0.1, "eval_batch_size": 2}, set()),
        ({"eval_batch_size": 8}, set()),
        ({"val_set_size": 0.1, "eval_batch_size": 8, "evals_per_epoch": 1}, set()),
        (
            {"val_set_size": 0.1, "eval_batch_size": 8},
            {"an evaluation of more rows than a step has"},
        ),
        ({"use_eaft": True}, {"a loss of its own"}),
        ({"plugins": ["axolotl.integrations.liger.LigerPlugin"]}, set()),
        (
            {"plugins": ["axolotl.integrations.kd.KDPlugin"]},
            {"the plugin axolotl.integrations.kd.KDPlugin"},
        ),
        ({"plugins": ["mine.Plugin"]}, {"the plugin mine.Plugin"}),
        ({"experts_implementation": "grouped_mm"}, set()),
        ({"experts_implementation": "batched_mm"}, {"fused kernels"}),
        ({"eval_sequence_len": 1024}, set()),
        ({"eval_sequence_len": 4096}, {"an evaluation of longer rows"}),
        ({"qat": {"weight_dtype": "mxfp4", "activation_dtype": "mxfp4"}}, {QUANTIZED_WIDELY}),
        ({"qat": {"weight_dtype": "int4", "activation_dtype": "fp8"}}, {QUANTIZED_WIDELY}),
        ({"qat": {"weight_dtype": "int4", "group_size": 8}}, {OTHERS_QAT}),
        ({"qat": {"weight_dtype": "int4", "quantize_embedding": True}}, {OTHERS_QAT}),
        ({"qat": {"weight_dtype": "nvfp4"}}, {OTHERS_QAT}),
        ({"overrides_of_model_config": {"rope_theta": 1e6}}, set()),
        ({"overrides_of_model_config": {"num_hidden_layers": 4}}, {"a model of another shape"}),
    ],
)
def test_what_a_key_changes_and_the_plan_cannot_hold_is_named(more, named, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps({**BASE, **more}))
    plan = LAUNCHER.read(LaunchCommand(("axolotl", "train", "c.yaml"), EIGHT, str(tmp_path)))
    assert plan is not None

    assert {notice.unpriced for notice in plan.notices} - {""} == named


@pytest.mark.parametrize("key", ["torch_compile_mode", "torch_compile_backend"])
def test_what_axolotl_compiles_with_graphs_of_cuda_is_named(key, tmp_path) -> None:
    """Said to fit: the pools of such graphs were in no estimate."""
    value = "max-autotune" if key == "torch_compile_mode" else "cudagraphs"
    (tmp_path / "c.yaml").write_text(json.dumps({**BASE, "torch_compile": True, key: value}))
    plan = LAUNCHER.read(LaunchCommand(("axolotl", "train", "c.yaml"), EIGHT, str(tmp_path)))
    model = describe(LLAMA, "small", "here")
    assert plan is not None

    assert "CUDA graphs" in [n.unpriced for n in with_left_out(plan, model).notices]


def test_any_launcher_may_stand_in_front_of_axolotls_module() -> None:
    """deepspeed starts ranks as torchrun does, and the config says the rest."""
    fronts = ("torchrun --nproc_per_node 8 -m", "deepspeed --num_gpus 8 --module")
    plans = [
        LAUNCHER.read(
            LaunchCommand((*front.split(), "axolotl.cli.train", "full.yaml"), EIGHT, str(FOLDER))
        )
        for front in fronts
    ]

    assert [plan and (plan.launcher, plan.world_size, plan.engine) for plan in plans] == [
        ("axolotl", 8, "ddp"),
        ("axolotl", 8, "ddp"),
    ]


@pytest.mark.parametrize(
    ("more", "is_reentrant"),
    [
        ({}, True),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": False}}, False),
        ({"gradient_checkpointing_kwargs": {"use_reentrant": True}, "rl": "dpo"}, True),
        ({"gradient_checkpointing_kwargs": {"preserve_rng_state": True}, "rl": "dpo"}, True),
        ({"rl": "dpo"}, False),
        ({"unfrozen_parameters": ["lm_head"]}, False),
        ({"selective_checkpointing": True}, False),
        ({"activation_offloading": True}, False),
        ({"activation_offloading": "hidden_states"}, True),
        ({"gradient_checkpointing": False}, None),
    ],
)
def test_checkpointing_is_of_the_kind_that_axolotl_fills_in(more, is_reentrant, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps({**BASE, **more}))
    plan = LAUNCHER.read(LaunchCommand(("axolotl", "train", "c.yaml"), EIGHT, str(tmp_path)))
    assert plan is not None

    assert plan.checkpointing_reentrant is is_reentrant


def test_a_script_beside_axolotls_config_does_not_speak_for_axolotl(tmp_path) -> None:
    adapter = {"adapter": "lora", "lora_r": 8, "lora_alpha": 16, "lora_target_linear": True}
    (tmp_path / "c.yaml").write_text(json.dumps({**BASE, **adapter}))
    (tmp_path / "train.py").write_text("import torch\n")
    plan = LAUNCHER.read(LaunchCommand(("axolotl", "train", "c.yaml"), EIGHT, str(tmp_path)))
    assert plan is not None
    plugins = load_plugins(builtins=["check_adapter_training"])
    older = replace(plan, versions={**plan.versions, "transformers": "4.57.1"})
    found = plugins.collect("preflight_findings", plan=older, model=None, device=None)

    assert older.checkpointing_reentrant
    assert not found


def test_an_engine_that_the_config_names_is_no_guess_of_the_launchers(tmp_path) -> None:
    """accelerate takes DDP for several processes and no mode; DeepSpeed's file is the trainer's own argument."""
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 3}}))
    (tmp_path / "c.yaml").write_text(json.dumps({**BASE, "deepspeed": "ds.json"}))
    words = ("axolotl", "train", "c.yaml", "--num-processes", "8")
    plan = LAUNCHER.read(LaunchCommand(words, {"CUDA_VISIBLE_DEVICES": ""}, str(tmp_path)))
    assert plan is not None

    assert plan.engine == "zero3"
    assert not plan.origins["engine"].assumed
    assert "ds.json" in plan.origins["engine"].where
