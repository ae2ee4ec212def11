"""What images take: the estimate beside real steps of tiny models that see, and the rules of how many there are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from seeing_steps import (
    CONFIGS,
    IMAGES,
    ON_LANGUAGE,
    ROWS,
    SAVED,
    Alive,
    batch_of,
    built,
    config_of,
    length_of,
    peak_of_step,
)

from preflight import estimate
from preflight.derive.costs.small_towers import FAMILIES, attentions
from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.adapters.frozen_parts import SEEING
from preflight.formulas.limits.left_out import with_left_out
from preflight.formulas.sharding import held_tensors
from preflight.formulas.tower_sizes import DTYPES, MODES, key_of
from preflight.formulas.vision import _methods, mode_of, seen_by, tower_bytes
from preflight.launch import Adapter, LaunchPlan, Origin, ScriptFacts, Vision
from preflight.memory import EVERY_STEP, Level, Moment
from preflight.models import describe
from preflight.models.registry import find_model
from preflight.unpriced_names import BESIDE_TEXT

STILL, PROJECTOR = ("tower", "projector"), ("tower",)
STEPS = [
    ("qwen2_5_vl", {"checkpointed": True}),
    ("qwen2_5_vl", {"frozen": STILL}),
    ("qwen2_vl", {"frozen": STILL, "checkpointed": True}),
    ("qwen3_vl", {}),
    ("qwen3_vl", {"rank": 8, "checkpointed": True}),
    ("gemma3", {"frozen": PROJECTOR, "checkpointed": True}),
    ("gemma4", {}),
    ("gemma4", {"frozen": PROJECTOR}),
    ("gemma4_clipped", {}),
    ("gemma4_clipped", {"frozen": PROJECTOR}),
    ("gemma4_clipped", {"frozen": STILL}),
    ("gemma4_clipped", {"rank": 8}),
    ("gemma4_clipped", {"checkpointed": True}),
    ("gemma4_clipped", {"frozen": STILL, "checkpointed": True}),
    ("paligemma", {"checkpointed": True}),
    ("llava", {"frozen": PROJECTOR}),
    ("llava", {"frozen": STILL, "rank": 8, "checkpointed": True, "saves_projector": True}),
    ("llava", {"frozen": STILL, "rank": 8, "saves_projector": True}),
    ("idefics3", {"rank": 8}),
    ("internvl", {}),
    ("internvl_rms", {"frozen": STILL}),
    ("internvl_rms", {"frozen": PROJECTOR, "checkpointed": True}),
    ("internvl_rms", {}),
    ("mistral3", {"checkpointed": True}),
    ("llava_pixtral", {"rank": 8, "checkpointed": True}),
    ("llava_pixtral", {}),
    ("mllama", {}),
    ("mllama", {"frozen": PROJECTOR}),
    ("mllama", {"frozen": PROJECTOR, "checkpointed": True}),
    ("mllama", {"frozen": STILL}),
    ("mllama", {"frozen": STILL, "checkpointed": True}),
    ("mllama", {"rank": 8}),
    ("mllama", {"rank": 8, "checkpointed": True}),
    ("mllama", {"frozen": STILL, "rank": 8, "checkpointed": True, "saves_projector": True}),
]
TOLERANCE = 0.02


def tokens_of(kind: str) -> int:
    tower = describe(config_of(kind), kind, "test").tower
    patches = (4 if kind.startswith("qwen") else 1) * 64
    padding = 1 if tower.fewest_tokens else 0
    return tower.tile_tokens - padding if tower.tile_tokens else patches // tower.patches_per_token


def tiny_plan(
    kind: str,
    frozen=(),
    rank: int = 0,
    checkpointed: bool = False,
    saves_projector: bool = False,
) -> LaunchPlan:
    tokens = tokens_of(kind)
    adapter = Adapter(rank=rank, targets="all-linear", dtype="bf16")
    if saves_projector:
        adapter = replace(adapter, targets=ON_LANGUAGE, modules_to_save=(SAVED,))
    return LaunchPlan(
        model_config=config_of(kind),
        vision=Vision(frozen, tokens, IMAGES),
        micro_batch_size=ROWS,
        seq_len=length_of(tokens),
        load_dtype="bf16",
        attention="sdpa",
        sequence_kind="fixed",
        trainer="plain_loop",
        keeps_outputs=False,
        activation_checkpointing="full" if checkpointed else "none",
        adapter=adapter if rank else None,
    )


@pytest.mark.parametrize(("kind", "step"), STEPS, ids=lambda value: str(value))
def test_a_step_with_images_takes_what_is_estimated(kind, step):
    found = estimate(tiny_plan(kind, **step))
    sums = [
        sum(t.num_bytes for t in found.terms_at(moment) if t.level is Level.ALLOCATED)
        for moment in EVERY_STEP
    ]
    counted = peak_of_step(kind, tokens_of(kind), **step)

    assert abs(max(sums) / counted - 1) < TOLERANCE, (max(sums), counted)


def test_every_family_is_among_the_steps():
    assert {kind for kind, _ in STEPS} == set(CONFIGS)
    assert set(CONFIGS) | {"llava_siglip"} == set(FAMILIES)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_tower_has_forms_for_everything_that_may_be_asked(kind):
    missing = [
        key_of(mode, dtype, attention, checkpointed)
        for mode in MODES
        for dtype in DTYPES[mode == "adapted"]
        for attention in attentions(kind)
        for checkpointed in (False, *([True] if mode != "still" else []))
        if key_of(mode, dtype, attention, checkpointed) not in _methods(kind)
    ]

    assert not missing


def real(name: str, **more) -> tuple[LaunchPlan, object]:
    entry = find_model(name)
    model = describe(entry.config, name, "registry", entry.num_params)
    values = {"micro_batch_size": 1, "seq_len": 4096, "load_dtype": "bf16", "vision": Vision()}
    return LaunchPlan(model=name, **{**values, **more}), model


@pytest.mark.parametrize(
    "name",
    [
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "google/gemma-3-4b-it",
        "google/gemma-4-31B-it",
        "HuggingFaceTB/SmolVLM-500M-Instruct",
    ],
)
def test_images_are_bounded_by_the_sequence_and_grow_with_it(name):
    before = 0
    for length in (1024, 2048, 8192):
        plan, model = real(name, seq_len=length)
        seen = seen_by(plan, model)

        assert seen.tokens <= length
        assert seen.rows > before
        before = seen.rows


def test_a_number_of_images_and_their_tokens_settle_what_is_seen():
    plan, model = real("Qwen/Qwen2.5-VL-7B-Instruct", vision=Vision((), 256, 3))

    assert seen_by(plan, model).rows == 3 * 256 * 4
    none = replace(plan, vision=Vision(images_per_sequence=0))
    assert seen_by(none, model) is None
    assert tower_bytes(none, model) is None
    # a tower that sees nothing gets no gradient on a device of its own
    assert not any(h.trains for h in held_tensors(none, model) if h.unit.role in SEEING)
    assert all(h.trains for h in held_tensors(plan, model) if h.unit.role in SEEING)


def test_one_image_of_a_fixed_size_is_never_more_than_its_tokens():
    plan, model = real("google/gemma-3-4b-it", vision=Vision(images_per_sequence=1))

    assert seen_by(plan, model).tokens == 256
    assert seen_by(plan, model).rows == 4096


@pytest.mark.parametrize(
    ("release", "mode"), [("4.57.6", "still"), ("5.0.0", "passed"), ("5.24.0", "passed")]
)
def test_checkpointing_lets_gradients_through_a_frozen_tower_from_transformers_5_on(release, mode):
    plan, model = real(
        "Qwen/Qwen2.5-VL-7B-Instruct",
        activation_checkpointing="full",
        vision=Vision(frozen=STILL),
        versions={"transformers": release},
    )

    assert mode_of(plan, model) == mode
    assert (tower_bytes(plan, model).saved > 0) is (mode == "passed")


def test_releases_that_mask_every_pair_of_patches_take_their_square_more():
    old, model = real("Qwen/Qwen2-VL-7B-Instruct", versions={"transformers": "4.52.4"})
    new = replace(old, versions={"transformers": "4.57.1"})
    flash = replace(old, attention="flash_attention_2")
    rows = seen_by(old, model).rows

    assert tower_bytes(old, model).forward - tower_bytes(new, model).forward >= 3 * rows**2
    assert tower_bytes(flash, model).forward < tower_bytes(old, model).forward - 3 * rows**2


def test_what_is_frozen_gets_no_gradient_and_no_adapter():
    plan, model = real("Qwen/Qwen2.5-VL-7B-Instruct", vision=Vision(frozen=STILL))
    adapted = replace(plan, adapter=Adapter(targets="all-linear"))

    assert not any(h.trains for h in held_tensors(plan, model) if h.unit.role in SEEING)
    assert not any(h.trains for h in held_tensors(adapted, model) if h.unit.role in SEEING)
    everywhere = replace(adapted, vision=Vision())
    assert any(h.trains for h in held_tensors(everywhere, model) if h.unit.role in SEEING)


@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("qwen2_vl", ("qkv", "attn.proj", "fc1", "fc2")),
        ("gemma3", ("proj", "fc1")),
        ("qwen2_vl", ("proj",)),
        ("qwen3_vl", ("proj", "q_proj")),
        ("mllama", ("patch_embedding", "fc1")),
        ("mistral3", ("patch_conv",)),
        ("gemma3", ("q_proj", "v_proj")),
        ("internvl", "all-linear"),
    ],
)
def test_an_adapter_is_on_the_modules_of_tower_and_decoder_that_peft_finds_by_their_names(
    kind, targets
):
    import peft
    from transformers import AutoConfig, AutoModelForImageTextToText

    values = config_of(kind)
    config = AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    theirs = peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=targets))
    plan = LaunchPlan(model_config=config_of(kind), adapter=Adapter(rank=8, targets=targets))
    spec = describe(config_of(kind), kind, "test")
    mine = sum(unit.count * tensor.num_params for unit, tensor in adapter_tensors(plan, spec))

    assert mine == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


def test_a_plan_without_images_has_no_moment_of_a_tower_above_the_others():
    plan, _ = real("Qwen/Qwen2.5-VL-7B-Instruct", vision=None)
    found = estimate(plan)

    assert found.peak.moment not in (Moment.TOWER_FORWARD, Moment.TOWER_BACKWARD)


def test_layers_that_attend_to_images_are_not_run_with_text_alone():
    plan = replace(tiny_plan("mllama"), vision=Vision(images_per_sequence=0))
    found = estimate(plan)
    sums = [
        sum(t.num_bytes for t in found.terms_at(moment) if t.level is Level.ALLOCATED)
        for moment in EVERY_STEP
    ]
    tokens = tokens_of("mllama")
    batch = batch_of("mllama", tokens)
    words = {name: batch[name] for name in ("input_ids", "labels", "attention_mask")}
    counted = peak_of_step("mllama", tokens, batch=words)

    assert abs(max(sums) / counted - 1) < TOLERANCE / 4, (max(sums), counted)


@pytest.mark.parametrize("engine", ["ddp", "fsdp1", "fsdp2", "zero2", "zero3"])
def test_with_text_alone_it_saves_what_the_language_model_does_that_it_was_made_of(engine):
    def saved(name):
        plan = LaunchPlan(
            model=name, engine=engine, world_size=8, shard_degree=1 if engine == "ddp" else 8,
            micro_batch_size=1, seq_len=2048, load_dtype="bf16", attention="sdpa",
            vision=Vision(images_per_sequence=0),
        )  # fmt: skip
        terms = estimate(plan).terms
        return [t.num_bytes for t in terms if t.name == "activations saved by the layers"]

    assert saved("meta-llama/Llama-3.2-11B-Vision") == saved("meta-llama/Llama-3.1-8B") != []


@pytest.mark.parametrize(
    ("more", "is_named"),
    [
        ({}, True),
        ({"vision": Vision((), None, 1)}, False),
        ({"vision": Vision((), None, 1), "attention": "eager"}, True),
        ({"vision": Vision((), None, 1), "trainer": "torchtune"}, True),
        ({"vision": Vision((), None, 1), "versions": {"transformers": "4.54.0"}}, True),
        ({"vision": Vision((), None, 0), "versions": {"transformers": "4.54.0"}}, False),
    ],
)
def test_images_that_no_length_bounds_are_named_where_nobody_says_how_many_or_nobody_traced_them(
    more, is_named
):
    values = {"trainer": "transformers", "command": ("x",), **more}
    plan, model = real("meta-llama/Llama-3.2-11B-Vision", **values)
    if "vision" in more:
        plan = plan.with_origin("vision", Origin("x", False))

    assert (BESIDE_TEXT in {n.unpriced for n in with_left_out(plan, model).notices}) is is_named


def peak_of_tower(keeps: bool) -> int:
    """Return the most bytes alive in the forward of LLaVA's frozen tower, without a graph as LLaVA's own code runs it."""
    model = built("llava", PROJECTOR, 0)
    batch, alive, peaks = batch_of("llava", tokens_of("llava")), Alive(), []
    for tensor in (*model.parameters(), *model.buffers(), *batch.values()):
        alive.hold(tensor)
    features, tower = model.model.get_image_features, model.model.vision_tower
    forward = tower.forward

    def without_graph(*args, **kwargs):
        with torch.no_grad():
            return forward(*args, **{**kwargs, **({"output_hidden_states": True} if keeps else {})})

    def measured(*args, **kwargs):
        alive.peak = alive.now
        result = features(*args, **kwargs)
        peaks.append(alive.peak)
        return result

    tower.forward, model.model.get_image_features = without_graph, measured
    with alive:
        model(**batch, use_cache=False)
    return peaks[0]


def test_outputs_of_every_layer_are_held_through_the_forward_of_a_tower_that_saves_nothing():
    plan = tiny_plan("llava", frozen=PROJECTOR)
    asked = replace(plan, script_facts=ScriptFacts(towers_keep_outputs=True))
    model = describe(config_of("llava"), "llava", "test")
    held = tower_bytes(asked, model).forward - tower_bytes(plan, model).forward
    measured = peak_of_tower(True) - peak_of_tower(False)

    assert 0.7 * held <= measured <= held, (measured, held)
    trained = replace(asked, vision=Vision((), tokens_of("llava"), IMAGES))
    without = replace(trained, script_facts=ScriptFacts())
    assert tower_bytes(trained, model) == tower_bytes(without, model)


@pytest.mark.parametrize(("assumed", "is_named"), [(False, False), (True, True)])
def test_a_model_that_hears_is_priced_where_somebody_says_how_many_images_there_are(
    assumed, is_named
):
    plan, model = real("google/gemma-4-E2B-it", trainer="transformers", command=("x",))
    said = replace(plan, vision=Vision((), None, 1)).with_origin("vision", Origin("x", assumed))

    assert model.tower is not None
    assert (BESIDE_TEXT in {n.unpriced for n in with_left_out(said, model).notices}) is is_named
