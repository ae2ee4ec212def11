"""What a checkpoint decides: packed weights are packed whatever the script says, and an unknown dtype is open."""

from __future__ import annotations

import pytest
import torch
from seeing_steps import Alive

from preflight.errors import Problem
from preflight.formulas.checkpoint import bits_and_bytes, packed_at_most, with_checkpoint
from preflight.formulas.precision import load_dtype
from preflight.judge import judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan, Origin
from preflight.model import LINEAR
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.unpriced_names import GPTQ_OR_AWQ
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
    ["unsloth/Qwen3-8B-FP8", "meta-llama/Llama-3.1-8B-Instruct-HQQ"],
)
def test_weights_in_a_way_that_nobody_priced_make_the_answer_unknown(model):
    for device in ("b200-sxm-180", "t4-16"):
        found = judged(plan_of(model, device, adapter=LORA))
        (notice,) = found.plan.notices

        assert found.verdict.answer is Answer.UNKNOWN
        assert found.verdict.unpriced == (notice.unpriced,)
        assert notice.id == "PF124"


GPTQ = "hugging-quants/Meta-Llama-3.1-8B-Instruct-GPTQ-INT4"


AQLM = "ISTA-DASLab/Meta-Llama-3-8B-Instruct-AQLM-2Bit-1x16"


@pytest.mark.parametrize("packed", [GPTQ, AQLM])
@pytest.mark.parametrize(
    ("device", "adapter", "answer"),
    [
        ("h100-sxm-80", LORA, Answer.FITS),
        ("rtx-4090-24", LORA, Answer.UNKNOWN),  # 16-bit weights do, and nobody says which kernel keeps them
        ("t4-16", LORA, Answer.UNKNOWN),
        ("b200-sxm-180", None, Answer.UNKNOWN),
    ],
)  # fmt: skip
def test_a_packed_base_under_an_adapter_fits_where_it_does_with_its_weights_unpacked_beside_it(
    packed, device, adapter, answer
):
    assert judged(plan_of(packed, device, adapter=adapter)).verdict.answer is answer


@pytest.mark.parametrize(
    ("model", "answer"), [("Qwen/Qwen-7B-Chat-Int4", Answer.FITS), (PLAIN, Answer.UNKNOWN)]
)
def test_what_a_script_loads_as_gptq_is_bounded_where_it_is_a_packed_copy(model, answer):
    """Qwen's own finetune.py gives GPTQConfig(bits=4); a model that is not packed would be packed as it is loaded."""
    asked = Problem("GPTQConfig(", unpriced=GPTQ_OR_AWQ, takes="either", severity="warning")
    plan = plan_of(model, adapter=LORA, notices=(asked,))

    assert judged(plan).verdict.answer is answer
    assert judged(plan_of("Qwen/Qwen-7B-Chat-Int4", adapter=LORA)).verdict.answer is Answer.UNKNOWN


class Packed(torch.nn.Module):
    """A matrix as GPTQ packs it, unpacked where it is used: TorchLinear of gptqmodel 7.7.0 in training, 4 or 8 bits."""

    def __init__(self, linear: torch.nn.Linear, bits: int, group: int) -> None:
        super().__init__()
        self.bits, per_word, inputs = bits, 32 // bits, linear.in_features
        words = {
            "qweight": torch.zeros(inputs // per_word, linear.out_features, dtype=torch.int32),
            "qzeros": torch.zeros(
                inputs // group, linear.out_features // per_word, dtype=torch.int32
            ),
            "scales": torch.ones(inputs // group, linear.out_features, dtype=torch.bfloat16),
            "g_idx": torch.arange(inputs, dtype=torch.int32) // group,
            "shifts": torch.arange(0, 32, bits, dtype=torch.int32)[None],
        }
        for name, value in words.items():
            self.register_buffer(name, value)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        most, groups = 2**self.bits - 1, self.g_idx.long()
        zeros = (self.qzeros[..., None] >> self.shifts[None]) & most
        weight = (self.qweight[:, None] >> self.shifts[..., None]) & most
        weight, zeros = weight.reshape(len(groups), -1), zeros.reshape(len(self.scales), -1)
        return inputs @ (self.scales[groups] * (weight - zeros[groups]))


def peak_of(make, sizes: list[tuple[int, int]]) -> int:
    linears = [torch.nn.Linear(a, b, bias=False, dtype=torch.bfloat16) for a, b in sizes]
    model = torch.nn.Sequential(*[make(linear).requires_grad_(False) for linear in linears])
    alive, rows = Alive(), torch.zeros(4, sizes[0][0], dtype=torch.bfloat16, requires_grad=True)
    for tensor in (*model.parameters(), *model.buffers()):
        alive.hold(tensor)
    with alive:
        model(rows).sum().backward()
    return alive.peak


@pytest.mark.parametrize(("bits", "group"), [(4, 128), (4, 32), (8, 128)])
def test_packed_weights_and_those_that_a_graph_keeps_unpacked_are_no_more_than_is_added(
    bits, group
):
    config = {**config_of(PLAIN), "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2,
              "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 64,
              "quantization_config": {"quant_method": "gptq", "bits": bits}}  # fmt: skip
    model = describe(config, "tiny", "test")
    added = packed_at_most(plan_of("", model_config=config, adapter=LORA), model).num_bytes
    shapes = [t.shape[::-1] for u, t in model.tensors() if u.role == "layer" and t.kind == LINEAR]
    sizes = [(512, 512)] * 8 + [(512, 1024), (1024, 512)] * 3  # of two layers, in a row
    assert sorted(a * b for a, b in shapes * 2) == sorted(a * b for a, b in sizes)
    whole = peak_of(lambda linear: linear, sizes)
    packed = peak_of(lambda linear: Packed(linear, bits, group), sizes)

    assert packed - whole <= added
    assert packed - whole > sum(a * b for a, b in sizes) * bits // 8
    sharded = plan_of("", model_config=config, adapter=LORA, engine="zero3", world_size=8)
    assert packed_at_most(sharded, model).num_bytes - added == 2 * sum(a * b for a, b in sizes)


class Coded(torch.nn.Module):
    """A matrix as AQLM has it, which a Function of its own unpacks in either direction (aqlm 1.1.7): two codebooks."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.shape = linear.weight.shape
        codes = torch.zeros(linear.weight.numel() // 8, 2, dtype=torch.int16)
        self.codes = torch.nn.Parameter(codes, requires_grad=False)
        self.codebooks = torch.nn.Parameter(torch.zeros(2, 65536, 8, dtype=torch.bfloat16))
        self.scales = torch.nn.Parameter(torch.zeros(self.shape[0], 1, dtype=torch.bfloat16))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return Unpacked.apply(inputs, self.codes, self.codebooks, self.scales, self.shape)


class Unpacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs, *stored):
        ctx.save_for_backward(inputs, *stored[:3])
        ctx.shape = stored[3]
        return inputs @ Unpacked.weight(*stored).T

    @staticmethod
    def backward(ctx, grad):
        return grad @ Unpacked.weight(*ctx.saved_tensors[1:], ctx.shape), None, None, None, None

    @staticmethod
    def weight(codes, codebooks, scales, shape):
        places = codes.to(torch.int64) % 65536 + 65536 * torch.arange(2)
        flat = torch.nn.functional.embedding_bag(places, codebooks.flatten(0, 1), mode="sum")
        return flat.view(shape).mul(scales).swapaxes(0, 0).reshape(shape)


def test_codes_and_a_matrix_that_is_unpacked_are_no_more_than_is_added():
    config = {**config_of(PLAIN), "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2,
              "num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 64,
              "quantization_config": {"quant_method": "aqlm"}}  # fmt: skip
    model = describe(config, "tiny", "test")
    stored = Problem("aqlm", unpriced="weights stored in aqlm", takes="either", severity="warning")
    plan = plan_of("", model_config=config, adapter=LORA, notices=(stored,))
    sizes = [(512, 512)] * 8 + [(512, 1024), (1024, 512)] * 3
    over = peak_of(Coded, sizes) - peak_of(lambda linear: linear, sizes)

    assert (
        14 * 2 * 65536 * 8 * 2 - 2 * 14 * 512 * 1024 < over <= packed_at_most(plan, model).num_bytes
    )


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
