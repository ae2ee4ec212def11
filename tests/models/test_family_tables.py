"""Types that a table lays out: every table gives the parameters that transformers makes, and is what its command makes."""

import json
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from preflight.derive.layouts.type_configs import small_type_config
from preflight.errors import ModelNotKnown
from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.cost_tables import FOLDER, file_of
from preflight.formulas.layers.heads import head_of_encoder, with_head
from preflight.formulas.layers.layer_coefficients import not_derived
from preflight.formulas.precision import precision_of
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan
from preflight.models import describe, lays_out
from preflight.models.families import library_defaults
from preflight.models.families.library_defaults import family_table
from preflight.plugins import load_plugins

TYPES = sorted(path.stem for path in Path(library_defaults.FOLDER).glob("*.json"))
LARGER, DEEPER = 2, 7
"""Twice one of the sizes that tables were checked at, and another depth."""


def names_in_costs():
    """Yield every file of costs of a type with a table: the table, and the widths that its forms are counted in."""
    for path in sorted(Path(FOLDER).glob("**/*.json")):
        own = [name for name in TYPES if path.stem == name or path.stem.startswith(f"{name}_")]
        names = json.loads(path.read_text()).get("names", ())
        if own:
            sizes = [name.split("*", 1)[1] for name in names if "*" in name and ":" not in name]
            yield path, max(own, key=len), {size for size in sizes if "_" in size}


def test_costs_are_counted_in_widths_that_their_table_has():
    """A size that a layer does not have counts as none: one of another spelling would be lost without a word."""
    files = list(names_in_costs())
    unknown = {
        str(path): sorted(widths - set(family_table(table)["widths"]))
        for path, table, widths in files
    }

    assert len(files) > 100
    assert {path: names for path, names in unknown.items() if names} == {}


def larger_config(model_type):
    from preflight.derive.layouts.type_configs import SIZES, SPECIAL, small_type_config

    own = {k for k, v in SPECIAL.get(model_type, {}).items() if isinstance(v, tuple)}
    config = small_type_config(model_type, 1, DEEPER)
    kept = {"n_group", "num_expert_group", "topk_group", "n_langs", "head_dim", "mamba_d_head"}
    kept.update(set(SPECIAL.get(model_type, {})) - own)  # what a type asks for is no size
    return {
        name: value * LARGER
        if name in {*SIZES, *own} - kept and isinstance(value, int) and value > 0
        else value
        for name, value in config.items()
    }


def parameters_of(config):
    """Return every parameter that transformers makes of a config, by name."""
    from preflight.trace.build import build
    from preflight.trace.job import TraceJob

    return {
        name: tuple(parameter.shape)
        for name, parameter in build(
            TraceJob(config=config, full_depth=True)
        ).model.named_parameters()
    }


def laid_out(model):
    found = {}
    for unit in model.units:
        prefixes = [unit.name + "." if unit.name else ""]
        if unit.role == "layer":
            prefixes = [f"{unit.name.partition('.*')[0]}.{place}." for place in unit.places]
        for prefix in prefixes:
            found.update({prefix + tensor.name: tensor.shape for tensor in unit.tensors})
    return found


@pytest.mark.parametrize("model_type", TYPES)
def test_a_table_gives_the_parameters_of_sizes_that_it_was_not_made_from(model_type):
    config = larger_config(model_type)

    assert laid_out(describe(config, model_type, "a test")) == parameters_of(config)


NOT_BUILT = ("cohere_compass_text",)
"""Types that transformers 5.24 cannot build from their own defaults: a kind of layer has no rotary parameters there."""


@pytest.mark.parametrize("model_type", TYPES)
def test_a_table_gives_the_parameters_of_the_defaults_of_its_class_or_none(model_type):
    """Lists by layer are left to the class there, in its own depth: a rule that fits few layers alone is found out."""
    config = {"model_type": model_type, "architectures": [family_table(model_type)["class"]]}
    if model_type in NOT_BUILT:
        with pytest.raises(KeyError):
            parameters_of(config)
    elif lays_out(config):
        assert describe(config, model_type, "a test").num_params == sum(
            prod(shape) for shape in parameters_of(config).values()
        )


@pytest.mark.parametrize("model_type", ["arcee", "gpt_neo", "seed_oss"])
def test_a_table_is_what_its_command_makes(model_type):
    from preflight.derive.layouts.layouts import layout_of

    known, made = dict(family_table(model_type)), json.loads(json.dumps(layout_of(model_type)))

    assert set(known.pop("widths")) <= set(made.pop("widths"))
    known["adapts_experts"] = made["adapts_experts"]
    assert known == made


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("model_type", "method"),
    [("exaone4", "LoRA"), ("nemotron", "full"), ("lfm3", "full"), ("mistral4", "QLoRA, autocast")],
)
def test_formulas_of_a_table_are_a_trace_in_other_sizes(model_type, method, checkpointing):
    from preflight.derive.costs.formula_table import compare

    for compared in compare(model_type, method, checkpointing, load_plugins(".")):
        assert abs(compared.error) < 0.002, compared


@pytest.mark.parametrize(
    ("model_type", "method"),
    [("mamba", "full"), ("mamba", "LoRA"), ("falcon_mamba", "LoRA"), ("jamba", "full")],
)
def test_formulas_of_a_loop_over_tokens_are_a_trace_of_another_length(model_type, method):
    """These layers make tensors for every token, and were traced at two other lengths."""
    from preflight.derive.costs.formula_table import compare

    for compared in compare(model_type, method, method == "full", load_plugins("."), seq_len=48):
        assert abs(compared.error) < 0.002, compared


def test_a_file_is_made_again_of_every_method_that_it_has():
    """That of a variant may have methods that its type's own has not."""
    from preflight.derive.costs.families import known_costs, methods_of
    from preflight.derive.target import Chosen

    variant = known_costs("gemma4_text_dense")
    assert variant is not None
    plain = {method for method in variant["shared"] if not method.endswith("checkpointed")}

    assert set(methods_of("gemma4_text_dense", Chosen(), ("LoRA",))) == plain | {"LoRA"}
    assert "QLoRA" in methods_of("gemma4_text_dense", Chosen(("QLoRA",)), ())


def test_an_adapter_gets_a_gradient_but_where_a_layer_reads_the_weight_past_its_module():
    import peft
    import torch
    from transformers import AutoModelForCausalLM, MambaConfig

    targets = ["in_proj", "x_proj", "dt_proj"]
    config = {**small_type_config("mamba", 0, 2), "hidden_size": 32, "intermediate_size": 64}
    model = AutoModelForCausalLM.from_config(MambaConfig(**config))
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets))
    words = torch.zeros((1, 4), dtype=torch.long)
    adapted(input_ids=words, labels=words).loss.backward()
    idle = {
        name.split(".lora_")[0].rpartition(".")[2]
        for name, parameter in adapted.named_parameters()
        if ".lora_" in name and parameter.grad is None
    }
    plan = LaunchPlan(adapter=Adapter("lora", 2, 4, 0.0, tuple(targets)))
    ours = adapter_tensors(plan, describe(config, "mamba", "here"))

    assert {t.name.split(".")[-3] for _, t in ours} == set(targets)
    assert idle == {t.name.split(".")[-3] for _, t in ours if not t.gets_gradient}


@pytest.mark.parametrize(
    ("variant", "method"),
    [
        ("gemma4_text_dense_windowed", "LoRA, autocast"),
        ("gemma4_text_experts", "full"),
        ("falcon_h1_normed", "QLoRA, prepared, autocast"),
    ],
)
def test_formulas_of_a_variant_are_a_trace_in_other_sizes(variant, method):
    """Under checkpointing, where the last layers of Gemma 4 hold on to keys and values that they made again."""
    from preflight.derive.costs.formula_table import compare

    for compared in compare(variant, method, True, load_plugins(".")):
        assert abs(compared.error) < 0.01, compared


def test_published_switches_and_windows_choose_the_file_of_their_own_traces():
    from preflight.models.registry import find_model

    def file(name, length):
        entry = find_model(name)
        model = describe(entry.config, name, "the registry", entry.num_params)
        plan = LaunchPlan(micro_batch_size=1, seq_len=length, load_dtype="bf16")
        assert not_derived(plan, model, precision_of(plan, model)) == ""
        return file_of(plan, model)

    assert file("google/gemma-4-31B-it", 1024) == "gemma4_text_dense"
    assert file("google/gemma-4-31B-it", 1025) == "gemma4_text_dense_windowed"
    assert file("google/gemma-4-26B-A4B-it", 8192) == "gemma4_text_experts_windowed"


def test_heads_that_flash_attention_takes_are_no_such_layers_as_those_that_it_does_not():
    config = {**small_type_config("gemma4_text_dense", 1), "global_head_dim": 128}

    model = describe(config, "mine", "a test")

    assert model.facts["unlike_traced"] == ("global_head_dim=128",)


def test_a_published_model_has_its_published_parameters():
    assert (
        describe({"model_type": "gpt_neo"}, "EleutherAI/gpt-neo-1.3B", "its class").num_params
        == 1_315_575_808
    )


def test_another_class_of_a_type_is_not_known():
    config = {"model_type": "arcee", "architectures": ["ArceeForTokenClassification"]}

    assert not lays_out(config)
    with pytest.raises(ModelNotKnown, match="ArceeForTokenClassification are not known here"):
        describe(config, "mine", "config.json")


def test_a_way_of_training_that_was_not_traced_is_unknown():
    model = describe({"model_type": "arcee"}, "mine", "config.json")
    plan = LaunchPlan(
        model_config={"model_type": "arcee"}, micro_batch_size=1, seq_len=512, load_dtype="bf16"
    )
    compiled = replace(plan, torch_compile=True)

    assert not_derived(plan, model, precision_of(plan, model)) == ""
    assert not_derived(compiled, model, precision_of(compiled, model)) == "compiled layers"
    assert estimate_memory(plan, model, None, load_plugins("."), ()).terms


@pytest.mark.parametrize(("experts", "unlike"), [(8, ()), (0, ("num_local_experts=0",))])
def test_a_part_that_every_traced_model_had_is_missed(experts, unlike):
    config = {**small_type_config("granitemoehybrid", 0, 3), "num_local_experts": experts}

    assert describe(config, "own", "test").facts["unlike_traced"] == unlike


ENCODERS = [model_type for model_type in TYPES if "heads" in family_table(model_type)]
HEADS_OF_TYPES = [(t, head) for t in ENCODERS for head in ("masked_lm", *family_table(t)["heads"])]


@pytest.mark.parametrize(("model_type", "head"), HEADS_OF_TYPES)
def test_an_encoder_has_the_parameters_of_its_head(model_type, head):
    """As many as transformers makes of the class, whatever class the config names, with as many labels as it says."""
    config = {**small_type_config(model_type, 1, 4, head=head), "num_labels": 7}
    published = {**config, "architectures": [family_table(model_type)["class"]]}
    objective = "pretrain" if head == "causal_lm" else head
    plan = LaunchPlan(objective=objective, trainer="transformers")
    made = sum(prod(shape) for shape in parameters_of(config).values())

    assert describe(config, model_type, "a test").num_params == made
    assert with_head(plan, describe(published, model_type, "a test")).num_params == made


@pytest.mark.parametrize(
    "more", [{"add_cross_attention": True}, {"architectures": ["BertForQuestionAnswering"]}]
)
def test_an_encoder_that_decodes_and_a_head_that_nobody_traced_are_not_known(more):
    with pytest.raises(ModelNotKnown):
        describe({**small_type_config("bert"), **more}, "bert", "a test")


@pytest.mark.parametrize(
    ("is_decoder", "objective", "head"),
    [(True, "pretrain", "causal_lm"), (False, "sft", "causal_lm"), (True, "masked_lm", None), (False, "masked_lm", "masked_lm")],
)  # fmt: skip
def test_an_encoder_that_decodes_has_the_head_of_its_causal_class_alone(
    is_decoder, objective, head
):
    model = describe({**small_type_config("bert"), "is_decoder": is_decoder}, "bert", "a test")

    assert head_of_encoder(LaunchPlan(objective=objective), model) == head


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    ("model_type", "head", "method"),
    [("modernbert", "sequence_classification", "full, fp32"), ("xlm-roberta", "masked_lm", "full, bf16 under autocast"),
     ("electra", "causal_lm", "full"), ("deberta-v2", "token_classification", "full, autocast"), ("distilbert_eager", "embedding", "full, autocast")],
)  # fmt: skip
def test_formulas_of_an_encoder_are_a_trace_in_other_sizes(model_type, head, method, checkpointing):
    from preflight.derive.costs.formula_table import compare

    for compared in compare(model_type, method, checkpointing, load_plugins("."), head=head):
        assert abs(compared.error) < 0.01, compared
