"""What a script says by Unsloth's calls is read with Unsloth's defaults; what they leave to run time is open."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

import preflight
from preflight.launch import Adapter
from preflight.unpriced_names import LEFT_WHOLE, OTHERS_QAT
from preflight.verdict import Answer

SCRIPT = """\
from unsloth import FastLanguageModel
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Meta-Llama-3.1-8B"LOAD)
ADAPT
SFTTrainer(model=model, args=SFTConfig(output_dir="out", per_device_train_batch_size=2ARGS)).train()
"""
ADAPTED = "model = FastLanguageModel.get_peft_model(model, r=32, lora_alpha=64)"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def read(folder, load="", adapt=ADAPTED, args=""):
    script = SCRIPT.replace("LOAD", load).replace("ADAPT", adapt).replace("ARGS", args)
    return plan_of(folder, "python train.py", {"train.py": script})


def unpriced(plan):
    return {notice.unpriced for notice in plan.notices if notice.unpriced}


def test_its_defaults_are_four_bits_an_adapter_and_checkpointing(tmp_path):
    plan = read(tmp_path)

    assert plan.model == "unsloth/Meta-Llama-3.1-8B"
    packed = plan.base_quantization
    assert packed is not None
    assert (packed.scheme, packed.double_quant, packed.compute_dtype) == ("nf4", True, "bf16")
    assert plan.adapter is not None and plan.adapter.targets == PROJECTIONS
    assert (plan.adapter.rank, plan.adapter.alpha, plan.adapter.dropout) == (32, 64, 0.0)
    assert (plan.activation_checkpointing, plan.seq_len, plan.load_dtype) == ("full", 2048, "bf16")
    assert not {"adapter", "base_quantization", "activation_checkpointing"} & opens(plan)
    assert unpriced(plan) == {"Unsloth's kernels", LEFT_WHOLE}


@pytest.mark.parametrize(
    ("load", "args", "seq_len"),
    [
        (", max_seq_length=4096", "", 4096),
        (", max_seq_length=4096", ", max_length=1024", 1024),
        (", max_seq_length=512", ", max_length=1024", 512),
        (", max_seq_length=4096", ", max_seq_length=1024, unsloth_num_chunks=4", 1024),
    ],
)
def test_rows_are_cut_at_the_shorter_of_the_models_length_and_the_trainers(
    tmp_path, load, args, seq_len
):
    assert read(tmp_path, load, args=args).seq_len == seq_len


def test_a_model_in_sixteen_bits_without_an_adapter_trains_whole(tmp_path):
    plan = read(tmp_path, ", load_in_4bit=False", adapt="")

    assert (plan.base_quantization, plan.adapter, plan.load_dtype) == (None, None, "bf16")


@pytest.mark.parametrize("load", [", load_in_16bit=True", ", full_finetuning=True"])
def test_a_keyword_for_the_whole_model_beats_load_in_4bit(tmp_path, load):
    plan = read(tmp_path, load, adapt="")

    assert (plan.base_quantization, plan.adapter, plan.load_dtype) == (None, None, "bf16")
    assert read(tmp_path, f"{load}, float32_mixed_precision=True").load_dtype == "fp32"


@pytest.mark.parametrize("end", ["-bnb-4bit", "-unsloth-bnb-4bit"])
def test_a_packed_copy_stands_for_its_model_where_it_is_not_to_be_packed(tmp_path, end):
    """Its own table has both names (unsloth/models/mapper.py), and what is loaded takes four times as much."""
    script = SCRIPT.replace("8B", f"8B{end}").replace("LOAD", ", load_in_4bit=False")
    script = script.replace("ADAPT", ADAPTED).replace("ARGS", "")
    plan = plan_of(tmp_path, "python train.py", {"train.py": script})

    assert (plan.model, plan.base_quantization) == ("unsloth/Meta-Llama-3.1-8B", None)


@pytest.mark.parametrize(("name", "may_be"), [("8B", True), ("8B-bnb-4bit", False)])
def test_a_copy_that_leaves_layers_whole_is_named_where_one_may_be_loaded(tmp_path, name, may_be):
    script = SCRIPT.replace("8B", name).replace("LOAD", "").replace("ADAPT", ADAPTED)
    plan = plan_of(tmp_path, "python train.py", {"train.py": script.replace("ARGS", "")})

    assert (LEFT_WHOLE in unpriced(plan)) is may_be


def verdict(folder, device):
    script = SCRIPT.replace("LOAD", "").replace("ADAPT", ADAPTED).replace("ARGS", "")
    (folder / "train.py").write_text(script)
    return preflight.check(["python", "train.py"], cwd=str(folder), device=device).verdict


def test_it_fits_where_the_whole_model_does_and_is_unknown_where_that_does_not(tmp_path):
    whole, packed = verdict(tmp_path, "a100-80"), verdict(tmp_path, "t4")

    assert whole.answer is Answer.FITS
    assert (packed.answer, LEFT_WHOLE in packed.unpriced) == (Answer.UNKNOWN, True)


@pytest.mark.parametrize("load", [", load_in_fp8=True", ", **given()"])
def test_what_is_not_followed_is_open(tmp_path, load):
    plan = read(tmp_path, load)

    assert {"base_quantization", "load_dtype", "activation_checkpointing"} <= opens(plan)


def test_an_adapter_under_a_condition_is_open(tmp_path):
    plan = read(tmp_path, adapt=f"if given():\n    {ADAPTED}")

    assert "adapter" in opens(plan)
    assert isinstance(plan.origins["adapter"].may_be[-1], Adapter)


def test_an_engine_for_generation_is_named(tmp_path):
    assert "an inference engine's share of the card" in unpriced(
        read(tmp_path, ", fast_inference=True")
    )


def test_a_class_of_that_name_from_elsewhere_is_not_unsloths(tmp_path):
    script = (
        SCRIPT.replace("from unsloth", "from mine")
        .replace("LOAD", "")
        .replace("ADAPT", ADAPTED)
        .replace("ARGS", "")
    )
    plan = plan_of(tmp_path, "python train.py", {"train.py": script})

    assert {"adapter", "base_quantization"} <= opens(plan)


@pytest.mark.parametrize(
    ("start", "model", "answer"),
    [
        ("env CUDA_VISIBLE_DEVICES=0 python", "Llama-3.3-70B-Instruct", Answer.DOES_NOT_FIT),
        ("torchrun --nproc_per_node 2", "Llama-3.3-70B-Instruct", Answer.DOES_NOT_FIT),
        ("python", "Llama-3.3-70B-Instruct", Answer.UNKNOWN),  # over all devices that it sees
        ("env CUDA_VISIBLE_DEVICES=0,1 python", "Llama-3.3-70B-Instruct", Answer.UNKNOWN),
        # its layers and its loss take less than is counted
        ("env CUDA_VISIBLE_DEVICES=0 python", "Meta-Llama-3.1-8B", Answer.UNKNOWN),
    ],
)
def test_what_no_kernel_changes_is_refused_where_one_device_has_to_hold_it(
    tmp_path, start, model, answer
):
    script = SCRIPT.replace("Meta-Llama-3.1-8B", model).replace("ADAPT", ADAPTED)
    script = script.replace("LOAD", ", max_seq_length=131072").replace(
        "ARGS", ", max_length=131072"
    )
    (tmp_path / "train.py").write_text(script)

    report = preflight.check([*start.split(), "train.py"], device="rtx-4090-24", cwd=str(tmp_path))
    assert report.verdict.answer is answer


def test_a_model_that_trains_whole_takes_no_adapter(tmp_path):
    """unsloth/models/vision.py:4947 (2026.10.9) returns the model as it is."""
    plan = read(tmp_path, ", full_finetuning=True")
    assert plan.adapter is None and "adapter" not in opens(plan)

    plan = read(tmp_path, ", full_finetuning=len(open('x').read()) > 3")
    assert "adapter" in opens(plan)


@pytest.mark.parametrize("saved", ["", ", modules_to_save=['norm']"])
def test_embedding_and_head_among_the_targets_are_trained_whole(tmp_path, saved):
    targets = "['q_proj', 'embed_tokens', 'model.lm_head']"
    adapter = read(
        tmp_path, adapt=ADAPTED.replace("r=32", f"target_modules={targets}{saved}")
    ).adapter

    assert adapter is not None and adapter.targets == ("q_proj",)
    before = ("norm",) if saved else ()
    assert adapter.modules_to_save == (*before, "embed_tokens", "model.lm_head")


def test_what_get_peft_model_hands_to_peft_counts(tmp_path):
    adapter = read(tmp_path, adapt=ADAPTED.replace("r=32", "r=32, use_dora=True")).adapter

    assert adapter is not None and adapter.kind == "dora"


@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("qat_scheme='int4'", OTHERS_QAT),
        ("checkpoint_skip_layers=8", "layers that are not recomputed"),
        ("target_parameters=['experts.down_proj']", "an adapter on parameters"),
    ],
)
def test_what_is_not_counted_of_its_adapter_is_named(tmp_path, keyword, name):
    assert name in unpriced(read(tmp_path, adapt=ADAPTED.replace("r=32", keyword)))


def test_eight_bits_are_not_four(tmp_path):
    packed = read(tmp_path, ", load_in_8bit=True, load_in_4bit=False").base_quantization

    assert packed is not None and packed.scheme == "int8"


SEEING = """\
from unsloth import FastVisionModel
from unsloth.trainer import UnslothVisionDataCollator
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastVisionModel.from_pretrained("unsloth/Qwen2-VL-7B-Instruct")
model = FastVisionModel.get_peft_model(model, r=16PARTS)
arguments = SFTConfig(output_dir="out", per_device_train_batch_size=2,
                      dataset_kwargs={"skip_prepare_dataset": True})
SFTTrainer(model=model, data_collator=UnslothVisionDataCollator(model, tokenizer), args=arguments).train()
"""


@pytest.mark.parametrize(
    ("parts", "is_named"), [("", False), (", finetune_vision_layers=False", True)]
)
def test_a_model_that_sees_is_read_like_one_that_does_not(tmp_path, parts, is_named):
    """Its rows are not cut, and its adapter is on every linear layer of the parts that train."""
    script = SEEING.replace("PARTS", parts)
    plan = plan_of(tmp_path, "python train.py", {"train.py": script})

    assert (plan.model, plan.seq_len) == ("unsloth/Qwen2-VL-7B-Instruct", None)
    assert plan.base_quantization is not None and plan.base_quantization.scheme == "nf4"
    assert plan.adapter is not None and (plan.adapter.rank, plan.adapter.targets) == (
        16,
        "all-linear",
    )
    assert ("an adapter on some modules" in unpriced(plan)) is is_named


EXPERTS = """\
from unsloth import FastLanguageModel
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastLanguageModel.from_pretrained("openai/gpt-oss-20b", max_seq_length=1024, load_in_4bit=False)
model = FastLanguageModel.get_peft_model(model, r=256, target_modules=TARGETS)
SFTTrainer(model=model, args=SFTConfig("out", per_device_train_batch_size=1), train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("targets", "is_named"),
    [(["q_proj", "v_proj"], False), (["q_proj", "gate_proj", "up_proj", "down_proj"], True)],
)
def test_adapters_that_unsloth_puts_on_experts_are_named(targets, is_named, tmp_path):
    """They were said not to be there, as PEFT alone has none: 26 GiB and more of a launch that was said to fit."""
    (tmp_path / "train.py").write_text(EXPERTS.replace("TARGETS", str(targets)))
    report = preflight.check(["python", "train.py"], device="h100-sxm-80", cwd=tmp_path)

    assert ("adapters on experts" in report.verdict.unpriced) == is_named
    assert "PF424" not in {each.id for each in report.findings}


PATCHED = """\
FIRST
SECOND

model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Meta-Llama-3.1-8B")
model = FastLanguageModel.get_peft_model(model)
SFTTrainer(model=model, args=SFTConfig(output_dir="out"GIVEN)).train()
"""
UNSLOTH, TRL = "from unsloth import FastLanguageModel", "from trl import SFTConfig, SFTTrainer"


@pytest.mark.parametrize(
    ("first", "second", "given", "expected"),
    [
        (UNSLOTH, TRL, "", (4, 2, "adamw_8bit")),
        (UNSLOTH, TRL, ", per_device_train_batch_size=1, optim='adamw_torch'", (1, 2, "adamw_torch")),
        (TRL, UNSLOTH, "", (8, 1, "adamw_torch_fused")),  # the script's name is TRL's own class
        (UNSLOTH, TRL.replace("trl", "mine"), "", (None, 1, "adamw_torch_fused")),
    ],
)  # fmt: skip
def test_configs_that_unsloth_puts_in_place_of_trls_have_its_defaults(
    tmp_path, first, second, given, expected
):
    script = PATCHED.replace("FIRST", first).replace("SECOND", second).replace("GIVEN", given)
    plan = plan_of(tmp_path, "python train.py", {"train.py": script})

    assert expected == (
        plan.micro_batch_size,
        plan.gradient_accumulation_steps,
        plan.optimizer,
    )


AGAIN = "model, tokenizer = FastLanguageModel.from_pretrained('out/merged', load_in_4bit=False)\n"
OTHER = AGAIN.replace("model,", "other,")
TRAINED_AGAIN = OTHER + "SFTTrainer(model=other, args=SFTConfig(output_dir='out')).train()\n"
BESIDE = "a model beside the one that trains"


@pytest.mark.parametrize(
    ("after", "is_named"),
    [
        (AGAIN, True),
        (OTHER, True),
        ("del model, trainer\n" + OTHER, False),
        ("del model, trainer\n" + TRAINED_AGAIN, True),
        (f"def judge():\n    {OTHER}    return other\n\njudge()\n", True),
    ],
)
def test_of_several_loads_the_one_that_trains_is_read_and_another_beside_it_named(
    tmp_path, after, is_named
):
    script = SCRIPT.replace("LOAD", "").replace("ADAPT", ADAPTED).replace("ARGS", "")
    script = script.replace("SFTTrainer(model", "trainer = SFTTrainer(model")
    script = script.replace(")).train()", "))\ntrainer.train()") + after
    plan = plan_of(tmp_path, "python train.py", {"train.py": script})

    assert plan.model == "unsloth/Meta-Llama-3.1-8B"
    assert plan.base_quantization is not None
    assert (BESIDE in unpriced(plan)) is is_named
