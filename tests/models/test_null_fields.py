"""Fields that no traced model had a value of: a config that sets one is not priced as though it were not there."""

import pytest

from preflight.derive.layouts.type_configs import small_type_config
from preflight.errors import ModelNotKnown
from preflight.formulas.layers.layer_coefficients import not_derived
from preflight.formulas.precision import precision_of
from preflight.launch import LaunchPlan
from preflight.models import describe, lays_out


def described(model_type, **more):
    return describe({**small_type_config(model_type, 0, 6), **more}, "own", "a test")


def missing(model, **more):
    plan = LaunchPlan(
        model_config={}, micro_batch_size=1, seq_len=512, load_dtype="bf16", versions={}, **more
    )
    return not_derived(plan, model, precision_of(plan, model))


@pytest.mark.parametrize(
    ("value", "named"), [(None, ""), ("nope", ""), ("rope", "position_embedding_type=rope")]
)
def test_a_word_that_no_parameter_depends_on_is_named(value, named):
    """Granite 4's dense models rotate, and its hybrids do not: nothing but this word tells them apart."""
    model = described("granitemoehybrid", position_embedding_type=value)

    assert model.num_params == described("granitemoehybrid").num_params
    assert missing(model) == named


def test_places_of_layers_count_where_nothing_else_says_what_layers_are():
    config = small_type_config("lfm2", 0, 6)
    places = {"full_attn_idxs": [1, 4]}

    assert lays_out({**config, **places})
    with pytest.raises(ModelNotKnown, match=r"full_attn_idxs of lfm2 is \[1, 4\]"):
        describe({**config, **places, "layer_types": None}, "own", "a test")


@pytest.mark.parametrize(("window", "named"), [(None, ""), (4096, ""), (128, "a window shorter")])
def test_a_window_that_no_model_had_is_a_mask_where_sequences_are_longer(window, named):
    assert missing(described("phi4_multimodal", sliding_window=window)).startswith(named)


def test_an_encoder_with_its_decoder_is_not_taken_for_the_decoder_alone():
    config = small_type_config("blenderbot", 0, 3)

    assert lays_out(config)
    assert not lays_out({**config, "architectures": ["BlenderbotForConditionalGeneration"]})
    assert not lays_out({name: value for name, value in config.items() if name != "architectures"})


@pytest.mark.parametrize("model_type", ["youtu", "minicpm3"])
def test_layers_that_have_other_matrices_where_a_field_is_null_are_named(model_type):
    """Queries go through a rank of their own or do not: only layers with one were traced."""
    assert missing(described(model_type)) == ""
    assert missing(described(model_type, q_lora_rank=None)) == "q_lora_rank=None"


def test_a_method_that_is_off_with_checkpointing_alone_is_named_there():
    model = described("mamba2")

    assert missing(model) == ""
    assert missing(model, activation_checkpointing="full") == "'full, checkpointed'"
