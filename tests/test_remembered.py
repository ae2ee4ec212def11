"""A remembered function answers as the function does, for values that are the very same."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.formulas.adapters.adaptations import nearest_adaptations
from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.cost_tables import PACKED, adaptation_of, table_of
from preflight.formulas.sharding import held_tensors, wrap_units
from preflight.launch import PLAN_FIELDS, Adapter, LaunchPlan, Vision
from preflight.plugins import load_plugins
from preflight.remembered import MOST, remembered


def test_the_same_values_are_asked_about_once_and_equal_ones_again():
    asked = []

    @remembered
    def ranks(plan: LaunchPlan, factor: int) -> int:
        asked.append(plan)
        return plan.world_size * factor

    plan = LaunchPlan(world_size=4)
    same = ranks(plan, 2), ranks(plan, 2), ranks(replace(plan), 2), ranks(plan, 3)

    assert same == (8, 8, 8, 12)
    assert len(asked) == 3


def test_a_plan_that_is_gone_is_not_taken_for_a_new_one():
    """Identities are used again once a value is gone; answers keep what they were asked about."""

    @remembered
    def ranks(plan: LaunchPlan) -> int:
        return plan.world_size

    answers = [ranks(LaunchPlan(world_size=number)) for number in range(1, 3 * MOST)]

    assert answers == list(range(1, 3 * MOST))


def test_it_is_called_as_it_was_written():
    @remembered
    def ranks(plan: LaunchPlan) -> int:
        """Return the ranks."""
        return plan.world_size

    assert (ranks.__name__, ranks.__doc__) == ("ranks", "Return the ranks.")


BY_WHAT_THEY_READ = (
    (adapter_tensors, ()),
    (held_tensors, ()),
    (nearest_adaptations, ()),
    (adaptation_of, ("LoRA",)),
    (table_of, ("LoRA",)),
    (wrap_units, (False, True)),
    (wrap_units, (True, False)),
)
MODELS = (
    "Qwen/Qwen2.5-0.5B", "Qwen/Qwen3-30B-A3B", "Qwen/Qwen2.5-VL-7B-Instruct", "openai-community/gpt2",
    "google/flan-t5-small", "openai/whisper-small", "google/gemma-4-31B-it",
)  # fmt: skip
PLANS = (
    {},
    {"adapter": Adapter(rank=8)},
    {"adapter": Adapter(rank=8, targets="all-linear"), "launcher": "axolotl", "objective": "dpo"},
    {"adapter": Adapter("dora", 8, modules_to_save=("lm_head",)), "base_quantization": PACKED},
    {"adapter": Adapter(rank=8), "trainer": "trl", "objective": "reward", "engine": "fsdp2"},
    {"adapter": Adapter(rank=8), "versions": {"transformers": "4.51.0", "peft": "0.11.0"}},
    {"engine": "fsdp1", "shard_degree": 8, "wrap_policy": "size", "wrap_min_num_params": 1},
    {
        "engine": "fsdp2",
        "trainer": "torchtitan",
        "tensor_parallel_degree": 2,
        "expert_parallel_degree": 2,
    },
    {
        "engine": "fsdp2",
        "wrap_classes": ("Qwen2_5_VLVisionBlock",),
        "adapter": Adapter(rank=8),
        "base_quantization": PACKED,
    },
    {"attention": "eager", "kernels": ("liger",), "vision": Vision(frozen=("vision_tower",))},
)


class Watched(LaunchPlan):
    """A plan that notes which of its fields are read."""

    def __getattribute__(self, name: str):
        if name in PLAN_FIELDS:
            SEEN.add(name)
        return super().__getattribute__(name)


SEEN: set[str] = set()


@pytest.mark.parametrize("said", PLANS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_function_that_is_remembered_by_what_it_reads_reads_nothing_else(name, said):
    plan = Watched(model=name, **said)
    model = load_plugins().first("preflight_describe_model", plan=plan)
    for function, words in BY_WHAT_THEY_READ:
        if function is adapter_tensors and plan.adapter is None:
            continue
        SEEN.clear()
        function.__wrapped__(plan, model, *words)
        assert SEEN and {*function.reads} >= SEEN, function.__name__


@pytest.mark.parametrize("edits", [{"seq_len": 64}, {"micro_batch_size": 9}, {"seq_len": None}])
@pytest.mark.parametrize("place", range(len(BY_WHAT_THEY_READ)))
def test_what_a_plan_trains_is_the_same_at_every_size_and_told_apart_by_all_that_it_reads(
    place, edits
):
    function, words = BY_WHAT_THEY_READ[place]
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-0.5B", adapter=Adapter(rank=8), micro_batch_size=2, seq_len=512
    )
    model = load_plugins().first("preflight_describe_model", plan=plan)
    sized = plan.with_edits(edits)
    wider = sized.with_edits({"adapter.rank": 16, "adapter.targets": ("up_proj",)})

    assert function(sized, model, *words) is function(plan, model, *words)
    for asked in (sized, wider):
        assert function(asked, model, *words) == function.__wrapped__(asked, model, *words)
    assert function is table_of or function(wider, model, *words) != function(plan, model, *words)
