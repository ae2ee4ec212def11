"""A plan that somebody wrote down without versions is judged in all that it may have."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from preflight.judge import judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan, Origin
from preflight.libraries.of_plan import with_open_versions, with_releases_that_know
from preflight.open_values import open_values
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.render.readings import reading_rows
from preflight.request import Request
from preflight.verdict import Answer
from preflight.versions.boundary import release

if TYPE_CHECKING:
    from preflight.model import ModelSpec

PACKED = LaunchPlan(
    model="meta-llama/Llama-2-70b-hf",
    trainer="transformers",
    engine="fsdp1",
    world_size=2,
    shard_degree=2,
    reshard_after_forward=True,
    offload_params="cpu",
    offload_optimizer="cpu",
    load_dtype="bf16",
    mixed_precision="bf16",
    micro_batch_size=1,
    seq_len=1024,
    activation_checkpointing="full",
    attention="flash_attention_2",
    adapter=Adapter(targets="all-linear"),
    base_quantization=BaseQuantization(scheme="nf4", storage_dtype="bf16"),
)


def answer(plan: LaunchPlan) -> Answer:
    opened = with_open_versions(replace(plan, device="rtx-5090-32"))
    return judge_plan(opened, load_plugins(), Policy()).verdict.answer


def test_a_version_that_nobody_said_decides_no_refusal():
    """transformers 5 packs the whole model on every device before it is sharded; 4.57 leaves it on the host."""
    newest = with_open_versions(PACKED).versions

    assert answer(replace(PACKED, versions=newest)) is Answer.DOES_NOT_FIT
    old = {**newest, "transformers": "4.48.1", "torch": "2.5.1"}
    assert answer(replace(PACKED, versions=old)) is not Answer.DOES_NOT_FIT
    assert answer(PACKED) is Answer.UNKNOWN


def test_versions_that_are_said_stay_and_so_do_plans_of_other_trainers():
    said = replace(PACKED, versions={"transformers": "4.57.1"})

    assert with_open_versions(said) is said
    titan = replace(PACKED, trainer="torchtitan")
    assert with_open_versions(titan) is titan
    assert "versions" in open_values(with_open_versions(PACKED))


@pytest.mark.parametrize(
    ("model_type", "more", "oldest"),
    [
        ("qwen3", {}, "4.52.4"),
        ("gpt_oss", {}, "4.55.4"),
        ("llama", {}, "4.44.2"),
        ("of_nobody", {}, "4.44.2"),
        ("qwen3", {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}}, "4.44.2"),
    ],
)
def test_no_release_is_read_that_does_not_know_the_models_type(model_type, more, oldest):
    plan = with_open_versions(PACKED)
    spec = SimpleNamespace(config={"model_type": model_type, **more}, like=None)
    left = with_releases_that_know(plan, cast("ModelSpec", spec))

    versions = [one["transformers"] for one in left.origins["versions"].may_be]
    assert min(versions, key=release) == oldest
    assert (left is plan) is (oldest == "4.44.2")


def test_a_release_that_is_said_and_does_not_know_the_model_is_named():
    """A pin of an older model's days: the launch stops where it starts, so that something else is installed."""
    said = replace(PACKED, model="Qwen/Qwen3-8B", versions={"transformers": "4.44.2"})
    said = said.with_origin("versions", Origin("docker/Dockerfile:3"))
    spec = cast("ModelSpec", SimpleNamespace(config={"model_type": "qwen3"}, like=None))
    told = with_releases_that_know(said, spec)

    assert told.versions == said.versions
    (notice,) = [each for each in told.notices if each not in said.notices]
    assert (notice.id, notice.where) == ("PF151", "docker/Dockerfile:3")
    assert notice.unpriced == "a release of transformers that knows qwen3"
    assert with_releases_that_know(told, spec) is told
    titan = replace(said, trainer="torchtitan")
    assert with_releases_that_know(titan, spec) is titan
    with_code = replace(said, model="OpenGVLab/InternVL3-8B")
    assert with_releases_that_know(with_code, spec) is with_code


def test_a_row_of_one_release_names_it_once():
    """Sets of versions may differ in another library than the one that is asked for."""
    sets = [
        {"transformers": "5.24.0", "torch": "2.13.0"},
        {"transformers": "4.48.1", "torch": "2.9.1"},
        {"transformers": "4.48.1", "torch": "2.8.0"},
    ]
    origin = Origin("nobody", True, "", tuple(sets))
    plan = replace(PACKED, device="rtx-5090-32", versions=sets[0]).with_origin("versions", origin)
    rows = reading_rows(check_plan(plan, load_plugins(), Request()))

    spans = [row[1].split(" to ") for row in rows]
    assert rows and all(len(ends) == len({*ends}) for ends in spans)
