"""ms-swift's launches: read as the manifest says, refused where its parser refuses, and written back.

ms-swift wants other versions of TRL and PEFT than the tests have, so its answers are kept in
tests/configs/swift/asked.json, written by ask_swift.py from ms-swift 4.6.0 and transformers 5.14.1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from framework_launches import CONFIGS, Rewritten, cases_of, plan_of_case

import preflight
from preflight.errors import BadInput
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objective import reference_of, takes_cross_entropy
from preflight.launch import Adapter, BaseQuantization, LaunchCommand, LaunchPlan
from preflight.launchers.swift import LAUNCHER
from preflight.launchers.swift.table import arguments_of, newest_with, preset
from preflight.unpriced_names import SWIFT_SEQUENCES

PLUGIN = Path(__file__).with_name("ask_swift.py")
"""A file that is here, and loads no model."""
FOLDER = CONFIGS / "swift"
CASES = cases_of("swift")
READ = {name: case for name, case in CASES.items() if "plan" in case}
REFUSED = {name: case for name, case in CASES.items() if "refused" in case}
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
OLDER = "older_words"
"""The case of a release before the one that was asked."""
SETTLED = [name for name in ASKED if name in READ and name != OLDER]
DTYPES = {"bf16": "torch.bfloat16", "fp16": "torch.float16", "fp32": "torch.float32"}


def read(argv: str, folder: Path = FOLDER, **env: str) -> LaunchPlan:
    plan = LAUNCHER.read(LaunchCommand(tuple(argv.split()), env, str(folder)))
    assert plan is not None
    return plan


def of_case(name: str) -> LaunchPlan:
    return plan_of_case(LAUNCHER.read, CASES[name], FOLDER)


def test_the_parser_refuses_what_is_refused_and_nothing_else() -> None:
    # who sees two GPUs was asked on a machine that shows none
    wanted = {*REFUSED, OLDER} - {"wrong_spread"}
    assert {name for name in ASKED if "refused" in ASKED[name]} == wanted


@pytest.mark.parametrize("name", SETTLED)
def test_a_plan_agrees_with_what_the_arguments_settle_on(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)

    if plan.load_dtype == "auto":
        assert theirs["torch_dtype"] == "torch.bfloat16"  # the asked model's own
    else:
        assert DTYPES[plan.load_dtype or ""] == theirs["torch_dtype"]
    assert (plan.mixed_precision == "bf16") == theirs["bf16"]
    assert (plan.mixed_precision == "fp16") == theirs["fp16"]
    assert plan.micro_batch_size == theirs["per_device_train_batch_size"]
    assert plan.gradient_accumulation_steps == theirs["gradient_accumulation_steps"]
    longest = theirs["packing_length"] if theirs["packing"] else theirs["max_length"]
    if plan.seq_len is not None and plan.generation is None:
        assert plan.seq_len == longest
    assert (plan.sequence_kind == "packed") == theirs["padding_free"]
    assert (plan.attention is None) == (theirs["attn_impl"] is None)
    if plan.engine != "fsdp2":
        assert (plan.activation_checkpointing == "full") == theirs["gradient_checkpointing"]
    assert (plan.loss == "fused_linear") == theirs["use_liger_kernel"]
    evaluates = theirs["eval_strategy"] != "no"
    assert plan.eval_micro_batch_size == (
        theirs["per_device_eval_batch_size"] if evaluates else None
    )
    if plan.adapter is None:
        assert theirs["tuner_type"] == "full"
        return
    assert theirs["tuner_type"] == "lora"
    targets = plan.adapter.targets
    assert theirs["target_modules"] == (
        list(targets or ()) if isinstance(targets, tuple) else [targets]
    )
    assert plan.adapter.rank == theirs["lora_rank"]
    assert plan.adapter.alpha == theirs["lora_alpha"]
    assert plan.adapter.dropout == theirs["lora_dropout"]
    assert (plan.adapter.kind == "dora") == theirs["use_dora"]
    packed = plan.base_quantization
    assert (packed is not None) == (theirs["quant_method"] is not None)
    if packed is not None and packed.scheme == "nf4":
        assert DTYPES[packed.compute_dtype or ""] == theirs["bnb_4bit_compute_dtype"]
        assert packed.double_quant == theirs["bnb_4bit_use_double_quant"]


@pytest.mark.parametrize("name", [name for name in SETTLED if ASKED[name]["deepspeed"]])
def test_its_own_deepspeed_config_is_the_one_of_its_wheel(name: str) -> None:
    theirs = ASKED[name]["deepspeed"]
    word = f"zero{theirs['zero_optimization']['stage']}"
    offloads = theirs["zero_optimization"].get("offload_optimizer", {}).get("device") == "cpu"

    assert preset(f"{word}_offload" if offloads else word, "4.6.0") == theirs


def test_the_release_is_the_newest_that_has_every_argument() -> None:
    assert newest_with("sft", {"model", "tuner_type"}) == "4.6.0"
    assert newest_with("sft", {"model", "train_type", "use_liger"}) == "3.2.2"
    assert {"max_length", "warmup_ratio", "per_device_train_batch_size"} <= set(
        arguments_of("pt").arguments
    )


@pytest.mark.parametrize(
    ("more", "reentrant"), [("--use_liger true", True), ("", False), ("--deepspeed zero2", True)]
)
def test_plain_ddp_recomputes_without_reentrance_from_3_6_on(more: str, reentrant: bool) -> None:
    argv = f"swift sft --model Qwen/Qwen2.5-7B --dataset a {more}"

    assert read(argv, NPROC_PER_NODE="8").checkpointing_reentrant is reentrant


def test_an_argument_of_another_release_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    argv = "swift sft --model Qwen/Qwen2.5-7B --dataset a --train_type full"
    assert read(argv, tmp_path, CUDA_VISIBLE_DEVICES="0").adapter is None

    (tmp_path / "requirements.txt").write_text("ms-swift==4.6.0\n")
    with pytest.raises(BadInput, match="train_type is an argument of ms-swift 3"):
        read(argv, tmp_path, CUDA_VISIBLE_DEVICES="0")


def test_an_argument_that_nobody_knows_leaves_the_launch_unknown() -> None:
    plan = read("swift sft --model Qwen/Qwen2.5-7B --dataset a --quux 3", CUDA_VISIBLE_DEVICES="0")

    assert [notice.unpriced for notice in plan.notices] == ["an argument named quux"]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("megatron sft --load x", "Megatron-Core"),
        ("swift rlhf --rlhf_type dpo --model_type qwen-7b-chat --dataset a", "before 3.0"),
    ],
)
def test_what_is_not_read_is_named(argv: str, says: str) -> None:
    (notice,) = read(argv).notices

    assert notice.id == "PF125"
    assert says in notice.message


def test_commands_that_do_not_train_are_no_launches() -> None:
    for argv in ("swift infer --model a", "swift rollout --model a", "swift build", "python a.py"):
        assert LAUNCHER.read(LaunchCommand(tuple(argv.split()), {}, ".")) is None


def test_how_many_answers_a_row_has_decides_nothing_unsaid() -> None:
    """Logits are made of answers alone since 3.5.0: the fewest bytes are those without any."""
    sft = of_case("lora_file").origins["loss"].may_be
    all_of_it = of_case("full_fsdp2").origins["loss"].may_be

    assert "fused_linear" in sft
    assert all_of_it == ()


@pytest.mark.parametrize(
    ("more", "loss"),
    [
        ("", "fused_linear"),
        ("--loss_scale last_round+ignore_empty_think", "fused_linear"),
        ("--loss_scale react", "full_logits"),
        ("--enable_dft_loss true", "full_logits"),
        ("--label_smoothing_factor 0.1", "full_logits"),
        ("--sequence_parallel_size 2", "full_logits"),
    ],
)
def test_a_loss_beside_the_model_makes_whole_logits_under_liger_too(more: str, loss: str) -> None:
    argv = f"swift sft --model Qwen/Qwen2.5-7B --dataset a --use_liger_kernel true {more}"
    plan = read(argv, NPROC_PER_NODE="8")

    assert plan.loss == loss
    assert plan.kernels is not None


@pytest.mark.parametrize(
    ("more", "degree", "named"),
    [
        ("--attn_impl flash_attn", 4, [SWIFT_SEQUENCES]),
        ("", 1, ["sequence parallelism"]),
    ],
)
def test_ranks_share_a_sequence_where_flash_attention_takes_it(more, degree, named) -> None:
    argv = f"swift sft --model Qwen/Qwen2.5-7B --dataset a --sequence_parallel_size 4 {more}"
    plan = read(argv, NPROC_PER_NODE="8")

    assert plan.sequence_parallel_degree == degree
    assert [notice.unpriced for notice in plan.notices if notice.unpriced] == named


def test_a_rank_that_may_see_more_gpus_may_take_less() -> None:
    argv = "swift sft --model Qwen/Qwen2.5-7B --dataset a"
    takes = {
        env: [
            n.takes for n in read(argv, **dict([pair.split("=") for pair in env.split()])).notices
        ]
        for env in ("CUDA_VISIBLE_DEVICES=0", "NPROC_PER_NODE=8", "NPROC_PER_NODE=2")
    }

    assert takes == {
        "CUDA_VISIBLE_DEVICES=0": [],
        "NPROC_PER_NODE=8": [],
        "NPROC_PER_NODE=2": ["less"],
    }


@pytest.mark.parametrize(("device", "takes"), [("cuda:0", []), ("cpu", []), ("auto", ["less"])])
def test_a_device_that_is_named_has_all_of_the_model(device: str, takes: list[str]) -> None:
    argv = f"swift sft --model Qwen/Qwen2.5-7B --dataset a --device_map {device}"

    assert [notice.takes for notice in read(argv).notices] == takes


NF4 = BaseQuantization("nf4", True, "bf16", None, "none")
ROUND_TRIPS = [
    (
        "lora_file",
        {"micro_batch_size": 1, "gradient_accumulation_steps": 16},
        [
            "- per_device_train_batch_size: 2",
            "+ per_device_train_batch_size: 1",
            "- gradient_accumulation_steps: 8",
            "+ gradient_accumulation_steps: 16",
        ],
    ),
    (
        "lora_file",
        {"attention": "flash_attention_2"},
        ["- attn_impl: sdpa", "+ attn_impl: flash_attn"],
    ),
    ("lora_file", {"seq_len": 1024}, ["- max_length: 3072", "+ max_length: 1024"]),
    ("lora_file", {"base_quantization": NF4}, ["+ quant_bits: 4", "+ quant_method: bnb"]),
]


def rewritten(name: str, edits: dict[str, Any], tmp_path: Path) -> Rewritten:
    hooks = LAUNCHER.read, LAUNCHER.write
    return Rewritten(tmp_path, "swift", *hooks, CASES[name], edits)


@pytest.mark.parametrize(("name", "edits", "lines"), ROUND_TRIPS)
def test_an_edit_is_written_where_the_value_stands(
    name: str, edits: dict[str, Any], lines: list[str], tmp_path: Path
) -> None:
    result = rewritten(name, edits, tmp_path)

    assert result.differing == ()
    assert sorted(result.changed_lines) == sorted(lines)


def test_flags_are_changed_and_added_where_there_is_no_file(tmp_path: Path) -> None:
    adapter = Adapter(rank=16, alpha=32, targets="all-linear")
    edits = {"micro_batch_size": 1, "gradient_accumulation_steps": 16, "adapter": adapter}
    result = rewritten("full_zero3", {**edits, "base_quantization": NF4}, tmp_path)

    assert result.differing == ()
    assert result.rewrite is not None
    words = " ".join(result.rewrite.argv)
    for word in (
        "--per_device_train_batch_size 1",
        "--gradient_accumulation_steps 16",
        "--tuner_type lora",
        "--quant_bits 4",
    ):
        assert word in words


@pytest.mark.parametrize(
    ("model", "env", "answer"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", {"CUDA_VISIBLE_DEVICES": "0"}, "fits"),
        ("Qwen/Qwen2.5-72B-Instruct", {"CUDA_VISIBLE_DEVICES": "0"}, "does_not_fit"),
        ("Qwen/Qwen2.5-72B-Instruct", {}, "unknown"),  # as many GPUs as it sees
    ],
)
def test_a_launch_is_judged_as_far_as_it_is_known(
    model: str, env: dict[str, str], answer: str
) -> None:
    argv = f"swift sft --model {model} --dataset a --torch_dtype bfloat16 --max_length 2048"
    report = preflight.check(argv.split(), device="h100-sxm-80", cwd=str(FOLDER), env=env)

    assert report.verdict is not None
    assert report.verdict.answer.value == answer


@pytest.mark.parametrize(
    ("argv", "objective", "reference", "loss", "unpriced"),
    [
        ("dpo --tuner_type full", "dpo", "same", "full_logits", ""),
        ("dpo", "dpo", "adapter_off", "full_logits", ""),
        ("dpo --use_liger_kernel true", "dpo", "adapter_off", "full_logits", ""),
        ("kto --tuner_type full", "kto", "same", "full_logits", ""),
        ("orpo --tuner_type full", "orpo", "none", "full_logits", ""),
        ("cpo --loss_type simpo", "simpo", "none", "full_logits", ""),
        ("rm --use_liger_kernel true", "reward", "none", "fused_linear", ""),
        ("dpo --tuner_type full --fsdp fsdp2", "dpo", "same", "full_logits", "under FSDP"),
        ("dpo --packing true --attn_impl flash_attn", "dpo", "adapter_off", "full_logits", "packed"),
        ("dpo --ref_adapters a --adapters a", "dpo", "adapter_off", "full_logits", "adapter"),
        ("grpo", "grpo", "adapter_off", "full_logits", ""),
        ("grpo --tuner_type full --beta 0", "grpo", "none", "full_logits", ""),
        ("grpo --offload_model true", "grpo", "adapter_off", "full_logits", "on the host during a rollout"),
        ("grpo --use_vllm true --deepspeed zero3", "grpo", "adapter_off", "full_logits", "gathered for the engine"),
        ("grpo --use_vllm true --deepspeed zero2", "grpo", "adapter_off", "full_logits", ""),
        ("grpo --sync_ref_model true --tuner_type full --deepspeed zero3", "grpo", "same", "full_logits", "synchronise"),
        ("grpo --sync_ref_model true --tuner_type full --deepspeed zero2", "grpo", "same", "full_logits", ""),
        ("grpo --fsdp fsdp2 --tuner_type full", "grpo", "same", "full_logits", "under FSDP"),
        ("grpo --steps_per_generation 3 --gradient_accumulation_steps 2", "grpo", "adapter_off", "full_logits", "wait"),
        ("grpo --external_plugins absent.py", "grpo", "adapter_off", "full_logits", "plugin loads"),
        (f"grpo --external_plugins {PLUGIN}", "grpo", "adapter_off", "full_logits", ""),
        ("gkd --teacher_model a", "distillation", "none", "full_logits", "gkd of ms-swift"),
    ],
)  # fmt: skip
def test_training_on_answers_is_priced_or_named(
    argv: str, objective: str, reference: str, loss: str, unpriced: str
) -> None:
    plan = read(
        f"swift rlhf --rlhf_type {argv} --model Qwen/Qwen2.5-7B --dataset a", NPROC_PER_NODE="8"
    )
    said = [*(notice.unpriced for notice in plan.notices), unpriced_objective(plan)]

    assert (plan.objective, reference_of(plan), plan.loss) == (objective, reference, loss)
    assert any(unpriced in name for name in said if name) if unpriced else not any(said)


def test_simpo_has_a_cross_entropy_unless_it_is_told_not_to() -> None:
    argv = "swift rlhf --rlhf_type simpo --model Qwen/Qwen2.5-7B --dataset a"

    assert takes_cross_entropy(read(argv))
    assert not takes_cross_entropy(read(f"{argv} --cpo_alpha 0.0"))


@pytest.mark.parametrize(
    ("kernel", "attention"),
    [
        ("flash_attn", "flash_attention_2"),
        ("kernels-community/flash-attn3", "flash_attention_3"),
        ("flash_attention_4", "flash_attention_2"),
        ("eager", "eager"),
    ],
)
def test_a_kernel_by_any_name_is_the_one_that_is_priced(kernel: str, attention: str) -> None:
    plan = read(f"swift sft --model Qwen/Qwen2.5-7B --dataset d --attn_impl {kernel}")

    assert plan.attention == attention


@pytest.mark.parametrize(
    ("flags", "left_out"),
    [
        ("--tuner_backend unsloth", [("a model of Unsloth's", "either")]),
        ("--tuner_backend peft", []),
        ("--eval_use_evalscope true", [("generation in evaluation", "more")]),
        ("--init_weights lora-ga", [("the start of LoRA-GA", "more")]),
        ("--init_weights pissa", []),
        ("--callbacks mine early_stop", [("the callback mine", "more")]),
        ("--callbacks activation_cpu_offload", [("offloaded activations", "less")]),
        ("--callbacks early_stop perf_log", []),
    ],
)
def test_what_no_field_of_a_plan_says_is_named(flags, left_out):
    """A model of Unsloth's, a callback of somebody's own and an evaluation that generates were said to fit."""
    plan = read(f"swift sft --model Qwen/Qwen2.5-7B --tuner_type lora --dataset x {flags}")

    said = [(notice.unpriced, notice.takes) for notice in plan.notices if notice.unpriced]
    assert [each for each in said if each[0] != "layers on other GPUs"] == left_out
