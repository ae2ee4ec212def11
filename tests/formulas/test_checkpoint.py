"""What a checkpoint decides: packed weights are packed whatever the script says, and an unknown dtype is open."""

from __future__ import annotations

import pytest

from preflight.formulas.checkpoint import bits_and_bytes, with_checkpoint
from preflight.formulas.precision import load_dtype
from preflight.judge import judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan, Origin
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.verdict import Answer

PLUGINS = load_plugins()
LORA = Adapter(targets="all-linear")
PLAIN = "meta-llama/Meta-Llama-3.1-8B-Instruct"
NF4 = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
}


def plan_of(model: str, device: str = "h100-sxm-80", **values) -> LaunchPlan:
    return LaunchPlan(
        model=model,
        trainer="transformers",
        micro_batch_size=1,
        seq_len=1024,
        mixed_precision="bf16",
        device=device,
        **values,
    )


def judged(plan: LaunchPlan):
    return judge_plan(plan, PLUGINS, Policy())


def config_of(model: str, **more) -> dict:
    return {**judged(plan_of(model)).model.config, **more}


def test_a_packed_copy_is_priced_as_a_launch_that_packs_the_model_itself():
    packed = BaseQuantization("nf4", double_quant=True, compute_dtype="bf16")
    copy = judged(plan_of("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", adapter=LORA))
    itself = judged(plan_of(PLAIN, adapter=LORA, base_quantization=packed))
    held = {term.name: term.num_bytes for term in copy.estimate.terms if "load" not in term.name}

    assert copy.plan.base_quantization == packed
    assert held == {t.name: t.num_bytes for t in itself.estimate.terms if "load" not in t.name}
    assert copy.verdict.answer is Answer.FITS


def test_a_config_that_was_downloaded_says_the_same_as_a_name():
    config = config_of(PLAIN, quantization_config=NF4)
    plan = with_checkpoint(plan_of(PLAIN), judged(plan_of("", model_config=config)).model)

    assert plan.base_quantization == bits_and_bytes(NF4)
    assert plan.notices == ()


def test_what_somebody_says_of_the_base_beats_the_checkpoint():
    said = {"base_quantization": Origin("--set")}
    plan = plan_of("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit", adapter=LORA, origins=said)

    assert judged(plan).plan.base_quantization is None


@pytest.mark.parametrize(
    "model",
    ["unsloth/Qwen3-8B-FP8", "hugging-quants/Meta-Llama-3.1-8B-Instruct-GPTQ-INT4"],
)
def test_weights_in_a_way_that_nobody_priced_make_the_answer_unknown(model):
    for device in ("b200-sxm-180", "t4-16"):
        found = judged(plan_of(model, device, adapter=LORA))
        (notice,) = found.plan.notices

        assert found.verdict.answer is Answer.UNKNOWN
        assert found.verdict.unpriced == (notice.unpriced,)
        assert notice.id == "PF124"


def test_a_copy_that_leaves_some_layers_in_16_bits_fits_where_the_whole_model_does_alone():
    name = "unsloth/Qwen3-32B-unsloth-bnb-4bit"
    answers = [
        judged(plan_of(name, card, adapter=LORA)).verdict.answer
        for card in ("h200-sxm-141", "h100-sxm-80", "t4-16")
    ]

    assert answers == [Answer.FITS, Answer.UNKNOWN, Answer.DOES_NOT_FIT]


@pytest.mark.parametrize(
    ("left", "is_noticed"),
    [(["lm_head", "multi_modal_projector", "vision_tower"], False), (["model.layers.3.mlp"], True)],
)
def test_modules_around_the_decoder_are_left_by_every_copy(left, is_noticed):
    values = {**NF4, "llm_int8_skip_modules": left}
    model = judged(plan_of("", model_config=config_of(PLAIN, quantization_config=values))).model

    assert bool(with_checkpoint(plan_of(PLAIN), model).notices) is is_noticed


def test_weights_that_are_unpacked_to_train_are_counted_so():
    config = config_of("openai/gpt-oss-20b", quantization_config={"quant_method": "mxfp4"})
    model = judged(plan_of("", model_config=config)).model

    assert with_checkpoint(plan_of(""), model) == plan_of("")


def test_a_copy_of_somebody_else_is_judged_in_both_dtypes_that_it_may_be_stored_in():
    """8 B in 16 bits fit a card that does not hold them in 32."""
    versions = {"transformers": "5.24.0"}
    plan = plan_of("somebody/Llama-3.1-8B", "rtx5090-32", adapter=LORA, versions=versions)
    found, official = judged(plan), judged(plan.with_edits({"model": PLAIN}))

    assert official.verdict.answer in (Answer.FITS, Answer.TIGHT)
    assert found.verdict.answer is Answer.UNKNOWN
    assert set(found.readings.deciding) == {"load_dtype"}


@pytest.mark.parametrize(
    "values", [{"load_dtype": "bf16"}, {"versions": {"transformers": "4.57.0"}}]
)
def test_a_dtype_that_does_not_follow_from_the_checkpoint_is_not_open(values):
    plan = plan_of("somebody/Llama-3.1-8B", adapter=LORA, **values)

    assert judged(plan).readings is None


def test_frameworks_with_model_code_of_their_own_load_their_own_way():
    plan = plan_of("unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit").with_edits(
        {"trainer": "torchtune"}
    )

    assert judged(plan).plan.base_quantization is None


def test_auto_is_what_the_checkpoint_holds_in_every_release_and_no_dtype_is_not():
    """from_pretrained without a dtype made fp32 weights before transformers 5; "auto" never did."""
    older, newer = {"transformers": "4.45.2"}, {"transformers": "5.24.0"}
    model = judged(plan_of(PLAIN)).model
    loaded = {
        (said, versions["transformers"]): load_dtype(
            plan_of(PLAIN, load_dtype=said, versions=versions), model
        )
        for said in ("auto", None)
        for versions in (older, newer)
    }

    assert loaded == {
        ("auto", "4.45.2"): "bf16",
        ("auto", "5.24.0"): "bf16",
        (None, "4.45.2"): "fp32",
        (None, "5.24.0"): "bf16",
    }
