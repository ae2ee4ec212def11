"""The attention that a plan gets which names none, against the classes of the installed transformers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.layouts.small_models import small_config
from preflight.derive.layouts.small_sizes import EVERY_MODEL
from preflight.formulas.layers.attention import (
    EAGER_VERSIONS,
    default_attention,
    with_default_attention,
)
from preflight.launch import LaunchPlan, Origin
from preflight.model import Likeness
from preflight.models import describe
from preflight.models.families.groups import GROUPS
from preflight.models.registry import find

LAID_OUT = sorted({name for names in GROUPS.values() for name in names} & set(EVERY_MODEL))
ASSUMED = {"attention": Origin("default of transformers", assumed=True)}


@pytest.mark.parametrize("model_type", LAID_OUT)
def test_eager_is_the_default_where_the_class_has_no_sdpa(model_type):
    import transformers
    from transformers.models.auto import modeling_auto as auto

    whole = small_config(model_type)["model_type"]
    name = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(whole)
    name = name or auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(whole)
    name = name or auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.get(whole)
    name = name or auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[whole]
    versions = {"transformers": transformers.__version__}

    has_sdpa = getattr(transformers, name)._supports_sdpa
    assert (default_attention(model_type, versions) == "sdpa") == has_sdpa


@pytest.mark.parametrize(
    ("model_type", "version", "attention"),
    [
        ("gemma2", "5.20", "sdpa"),
        ("gemma2", "5.21", "eager"),
        ("gptj", "4.56", "eager"),
        ("gptj", "5.24", "sdpa"),
        ("opt", "4.45", "eager"),
        ("phi3", "4.44", "eager"),
        ("gpt_oss", "main", "eager"),
        ("llama", "4.44", "sdpa"),
        ("gpt2", "4.41", "eager"),
        ("gpt_neox", "4.42", "sdpa"),
        ("mistral", "4.36", "eager"),
        ("mixtral", "4.37", "sdpa"),
        ("phi", "4.38", "eager"),
        ("stablelm", "4.39", "sdpa"),
        ("mt5", "5.14", "eager"),
        ("t5", "5.15", "sdpa"),
    ],
)
def test_the_default_follows_the_version(model_type, version, attention):
    assert default_attention(model_type, {"transformers": version}) == attention


@pytest.mark.parametrize("model_type", sorted(EAGER_VERSIONS))
def test_an_attention_that_somebody_gave_stays(model_type):
    is_of_t5 = model_type in GROUPS["both_stacks"]
    config = (
        {**small_config("t5"), "model_type": model_type} if is_of_t5 else small_config(model_type)
    )
    model = describe(config, "small", "here")
    given = LaunchPlan(attention="flash_attention_2", versions={"transformers": "4.44.0"})

    assert with_default_attention(given, model) is given


def test_a_plan_that_says_nothing_is_eager_and_says_why():
    model = describe(small_config("gemma2"), "small", "here")
    plan = LaunchPlan(
        attention="sdpa", origins=ASSUMED, versions={"transformers": "5.24.0"}, trainer="trl"
    )
    settled = with_default_attention(plan, model)

    origin = settled.origins["attention"]
    assert (settled.attention, origin.assumed) == ("eager", True)
    assert "5.24.0" in origin.where
    older = LaunchPlan(attention="sdpa", origins=ASSUMED, versions={"transformers": "5.20.0"})
    assert with_default_attention(older, model) is older


@pytest.mark.parametrize(
    ("versions", "attention", "why"),
    [
        ({"transformers": "4.35.2", "torch": "2.1.2"}, "eager", "llama has no SDPA there"),
        ({"transformers": "4.36.2", "torch": "2.1.0"}, "eager", "it takes no SDPA of this torch"),
        ({"transformers": "4.36.2", "torch": "2.1.2"}, "sdpa", ""),
        ({"transformers": "4.48.1", "torch": "1.13.1"}, "eager", "it takes no SDPA of this torch"),
        ({"transformers": "4.48.1"}, "sdpa", ""),
    ],
)
def test_releases_without_sdpa_run_eager(versions, attention, why):
    model = describe(small_config("llama"), "small", "here")
    plan = LaunchPlan(attention="sdpa", origins=ASSUMED, versions=versions, trainer="transformers")
    settled = with_default_attention(plan, model)

    assert settled.attention == attention
    assert why in settled.origins["attention"].reason
    said = LaunchPlan(attention="sdpa", versions=versions, trainer="transformers")
    assert with_default_attention(said, model) is said


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("internlm/internlm2_5-7b", "eager"),
        ("openbmb/MiniCPM-2B-sft-bf16", "sdpa"),
        ("meta-llama/Llama-2-7b-hf", "sdpa"),
    ],
)
def test_a_model_of_a_natives_shape_runs_what_the_code_beside_it_runs(name, attention):
    entry, _ = find(name)
    versions = {"transformers": "4.48.1", "torch": "2.6.0"}
    model = describe(entry.config, name, "registry")
    plan = LaunchPlan(model=name, attention="sdpa", origins=ASSUMED, versions=versions)
    settled = with_default_attention(plan, model)

    assert settled.attention == attention
    copied = replace(model, name="me/tuned", like=Likeness(name, "by its name alone", True))
    assert with_default_attention(plan, copied).attention == attention
    said = LaunchPlan(model=name, attention="flash_attention_2", versions=versions)
    assert with_default_attention(said, model) is said
    if attention == "eager":
        assert "code beside its weights" in settled.origins["attention"].reason
