"""Laws that hold for every plan: shards add up, saving settings save, levels contain each other."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preflight.device import DeviceSpec
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.formulas.sharding import held_tensors, local_elements
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan
from preflight.models import describe
from preflight.verdict import Answer, judge

LLAMA = describe(
    {
        "model_type": "llama",
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
    "law",
    "test",
)
ENGINES = ("single", "ddp", "fsdp1", "fsdp2", "zero1", "zero2", "zero3")


@st.composite
def plans(draw) -> LaunchPlan:
    engine = draw(st.sampled_from(ENGINES))
    world = 1 if engine == "single" else draw(st.sampled_from([2, 3, 8, 64, 1000]))
    sharded = engine not in ("single", "ddp")
    return LaunchPlan(
        engine=engine,
        world_size=world,
        shard_degree=world if sharded else 1,
        micro_batch_size=draw(st.integers(1, 8)),
        seq_len=draw(st.sampled_from([64, 1000, 4096])),
        gradient_accumulation_steps=draw(st.sampled_from([1, 2, 8])),
        mixed_precision=draw(st.sampled_from(["no", "bf16"])),
        load_dtype=draw(st.sampled_from(["fp32", "bf16"])),
        optimizer=draw(st.sampled_from(["adamw_torch", "adamw_torch_fused", "sgd"])),
        activation_checkpointing=draw(st.sampled_from(["none", "full"])),
        reshard_after_forward=draw(st.sampled_from([True, False])) if "fsdp" in engine else None,
        attention=draw(st.sampled_from(["eager", "sdpa", "flash_attention_2"])),
        loss=draw(st.sampled_from(["full_logits", "fused_linear", "chunked_linear"])),
        adapter=draw(st.sampled_from([None, Adapter("lora", 16, 32, 0.05, "all-linear")])),
        trainer=draw(st.sampled_from(["transformers", "trl", "plain_loop"])),
        sequence_kind=draw(st.sampled_from(["padded", "packed"])),
    )


LAW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def peak(plan: LaunchPlan, plugins) -> int:
    return estimate_memory(plan, LLAMA, None, plugins).allocated_peak_bytes


@LAW
@given(plan=plans())
def test_levels_contain_each_other(plugins, plan):
    """Allocated is at most reserved, reserved at most device, in every phase."""
    for found in estimate_memory(plan, LLAMA, None, plugins).peaks:
        assert found.allocated_bytes <= found.reserved_bytes <= found.device_bytes


@LAW
@given(plan=plans(), degree=st.integers(1, 300))
def test_shards_add_up_to_the_whole(plugins, plan, degree):
    """The ranks together hold every element once, plus less than a row per rank and tensor."""
    plan = replace(plan, engine="fsdp2", world_size=degree, shard_degree=degree)
    for held in held_tensors(plan, LLAMA):
        whole, local = held.tensor.num_params, local_elements(plan, held)
        row = whole // held.tensor.shape[0]
        assert whole <= local * degree < whole + row * degree


@LAW
@given(plan=plans())
def test_checkpointing_never_raises_the_peak(plugins, plan):
    """Recomputing layers keeps less than storing them."""
    on, off = (replace(plan, activation_checkpointing=mode) for mode in ("full", "none"))
    slack = 2 * plan.micro_batch_size * plan.seq_len * LLAMA.hidden_size * 4

    assert peak(on, plugins) <= peak(off, plugins) + slack


@LAW
@given(plan=plans())
def test_resharding_never_raises_the_peak(plugins, plan):
    """Freeing gathered layers after forward holds less, but for the buffers of gathering them again."""
    if not plan.is_fsdp:
        return
    free, keep = (replace(plan, reshard_after_forward=value) for value in (True, False))
    layer = LLAMA.largest_layer.num_params

    assert peak(free, plugins) <= peak(keep, plugins) + 4 * 4 * layer


@LAW
@given(plan=plans(), shorter=st.integers(1, 8))
def test_a_smaller_micro_batch_never_raises_the_peak(plugins, plan, shorter):
    """At the same accumulation, fewer sequences hold fewer activations."""
    smaller = replace(plan, micro_batch_size=min(shorter, plan.micro_batch_size))

    assert peak(smaller, plugins) <= peak(plan, plugins)


@LAW
@given(plan=plans())
def test_adapters_train_a_part(plugins, plan):
    """An adapter trains something, and less than the model."""
    if plan.adapter is not None:
        assert 0 < num_trainable_params(plan, LLAMA) < LLAMA.num_params / 10


@LAW
@given(plan=plans(), low=st.integers(1, 100), high=st.integers(1, 100))
def test_verdicts_are_monotone_in_capacity(plugins, plan, low, high):
    """What fits a device fits a larger one."""
    order = [Answer.DOES_NOT_FIT, Answer.TIGHT, Answer.FITS]
    estimate = estimate_memory(plan, LLAMA, None, plugins)
    small, large = sorted((low * 2**30, high * 2**30))
    answers = [judge(estimate, DeviceSpec("d", size)).answer for size in (small, large)]

    assert order.index(answers[0]) <= order.index(answers[1])


@LAW
@given(plan=plans(), fewer=st.integers(1, 200), more=st.integers(1, 200))
def test_more_ranks_never_raise_the_states_of_one(plugins, plan, fewer, more):
    """Parameters, gradients and optimizer states of a rank go down, or stay, with the shard group."""
    if plan.engine in ("single", "ddp"):
        return
    names = ("parameters", "optimizer states", "master parameters")

    def states(degree: int) -> int:
        sharded = replace(plan, world_size=degree, shard_degree=degree)
        terms = estimate_memory(sharded, LLAMA, None, plugins).terms
        return sum(t.num_bytes for t in terms if t.name.startswith(names))

    low, high = sorted((fewer, more))

    assert states(high) <= states(low)


@LAW
@given(plan=plans(), world=st.sampled_from([1, 7, 1000, 100_000]))
def test_an_estimate_has_as_many_terms_for_any_number_of_ranks(plugins, plan, world):
    """Nothing loops over ranks: the work of an estimate does not grow with the job."""
    if plan.engine == "single":
        return
    sharded = plan.engine not in ("ddp", "single")
    terms = [
        estimate_memory(
            replace(plan, world_size=ranks, shard_degree=ranks if sharded else 1, num_nodes=1),
            LLAMA,
            None,
            plugins,
        ).terms
        for ranks in (2, max(2, world))
    ]

    assert abs(len(terms[0]) - len(terms[1])) <= 2
