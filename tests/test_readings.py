"""Open values: a verdict holds for every way to fill them in, and settling one never widens the answer."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.errors import Problem
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan, Origin
from preflight.open_values import filled_in, open_values
from preflight.plan_choices import CHEAPEST_FIRST, OPEN_VALUES
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.readings import MOST_READINGS, moved_library, read_all_ways
from preflight.verdict import Answer, Verdict

PLUGINS = load_plugins()
MODELS = ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen2.5-14B", "Qwen/Qwen2.5-72B")
DEVICES = ("h100-sxm-80", "l4-24", "a100-sxm-40")
OPEN = ("engine", "activation_checkpointing", "adapter", "base_quantization", "load_dtype", "loss")


def plan_of(model, device, open_fields, **more) -> LaunchPlan:
    plan = LaunchPlan(
        model=model,
        engine="ddp",
        world_size=8,
        micro_batch_size=1,
        seq_len=2048,
        mixed_precision="bf16",
        device=device,
        **more,
    )
    for name in open_fields:
        plan = plan.with_origin(name, Origin("nobody", True, "", OPEN_VALUES[name]))
    return plan


def judged(plan):
    return judge_plan(plan, PLUGINS, Policy())


def every_answer(plan) -> set[Answer]:
    """Return the answers of all completions, each judged as a plan that says everything."""
    may_be = open_values(plan)
    answers = set()
    for values in product(*may_be.values()):
        filled = filled_in(plan, dict(zip(may_be, values, strict=True)))
        if filled is not None:
            assert not open_values(filled)
            answers.add(judged(filled).verdict.answer)
    return answers


plans = st.builds(
    plan_of,
    st.sampled_from(MODELS),
    st.sampled_from(DEVICES),
    st.sets(st.sampled_from(OPEN), min_size=1, max_size=3),
    gradient_accumulation_steps=st.sampled_from((1, 4)),
)
packed_plans = st.builds(
    plan_of,
    st.sampled_from(MODELS),
    st.sampled_from(DEVICES),
    st.sets(st.sampled_from(("activation_checkpointing", "loss", "engine")), min_size=2).map(
        lambda names: {"adapter", *names}
    ),
    base_quantization=st.just(OPEN_VALUES["base_quantization"][1]),
)
"""Of a packed base that something has to be trained beside: the plan as it stands is no launch."""


@given(plans | packed_plans)
@settings(max_examples=60)
def test_a_verdict_of_open_values_holds_for_every_completion(plan):
    answer, answers = judged(plan).verdict.answer, every_answer(plan)

    if answer in (Answer.DOES_NOT_FIT, Answer.FITS):
        assert answers == {answer}
    elif answer is Answer.TIGHT:
        assert answers <= {Answer.FITS, Answer.TIGHT}
    else:
        assert len(answers) > 1


@given(plans, st.data())
@settings(max_examples=40)
def test_settling_an_open_field_never_widens_the_answer(plan, data):
    name = data.draw(st.sampled_from(sorted(open_values(plan))))
    value = data.draw(st.sampled_from(open_values(plan)[name]))
    narrower = filled_in(
        plan.with_origin(name, Origin("--set")),
        {name: value},
    )
    if narrower is None:
        return
    before, after = judged(plan).verdict.answer, judged(narrower).verdict.answer

    if before in (Answer.FITS, Answer.DOES_NOT_FIT):
        assert after is before
    if before is Answer.TIGHT:
        assert after in (Answer.FITS, Answer.TIGHT)


def test_a_field_that_decides_is_named_with_what_each_value_gives():
    readings = judged(plan_of("Qwen/Qwen2.5-14B", "h100-sxm-80", ["engine"])).readings

    assert readings is not None and readings.answer is None
    answers = {way.value: way.answer for way in readings.deciding["engine"]}
    assert answers["ddp"] is Answer.DOES_NOT_FIT and answers["fsdp2"] is Answer.FITS
    assert readings.least.values["engine"] != "ddp" == readings.most.values["engine"]


def test_many_open_fields_are_judged_at_their_ends_in_few_estimates():
    plan = plan_of("meta-llama/Llama-3.1-8B", "h100-sxm-80", OPEN)
    num_readings = 1
    for values in open_values(plan).values():
        num_readings *= len(values)
    readings = judged(plan).readings

    assert readings is not None and num_readings > MOST_READINGS
    assert readings.least.peak_bytes <= readings.likely.peak_bytes <= readings.most.peak_bytes
    assert readings.least.values["adapter"] is not None
    assert readings.most.values["adapter"] is None


@given(plans, st.booleans())
@settings(max_examples=60)
def test_a_field_decides_where_a_value_of_it_leaves_an_answer(plan, is_priced):
    if not is_priced:
        unpriced = Problem.left_out("script", "train.py:9", "a loss of its own", "more")
        plan = replace(plan, notices=(unpriced,))
    readings = judged(plan).readings
    assert readings is not None
    for name, ways in readings.deciding.items():
        answers = [way.answer for way in ways]
        assert set(answers) - {None, Answer.UNKNOWN}, name
        for way in ways:  # and it is what a plan that says so gets
            said = filled_in(plan.with_origin(name, Origin("--set")), {name: way.value})
            if said is not None:  # weights may be packed where another open field has an adapter
                assert judged(said).verdict.answer is (way.answer or Answer.UNKNOWN)


@pytest.mark.parametrize("model", MODELS)
def test_the_json_marks_what_decides_wherever_readings_disagree(model):
    readings = judged(plan_of(model, "h100-sxm-80", OPEN)).readings
    assert readings is not None
    marked = {name for name, told in readings.open_to_dict().items() if told["deciding"]}

    assert bool(marked) is (readings.answer is None)
    assert marked >= set(readings.deciding)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["engine", "activation_checkpointing", "load_dtype", "loss"])
def test_the_order_of_a_fields_values_is_that_of_their_peaks(model, name):
    plan = plan_of(model, "h100-sxm-80", [name], activation_checkpointing="none")
    peaks = []
    for value in sorted(open_values(plan)[name], key=CHEAPEST_FIRST[name].index):
        filled = filled_in(plan, {name: value})
        assert filled is not None
        estimate = judged(filled).estimate
        assert estimate is not None
        peaks.append(estimate.allocated_peak_bytes)
    ends = peaks[0], peaks[-1]

    assert ends[0] <= ends[1]


def test_an_edit_closes_the_field_that_it_edits():
    plan = plan_of("meta-llama/Llama-3.1-8B", "h100-sxm-80", ["engine", "load_dtype"])

    assert set(open_values(plan)) == {"engine", "load_dtype"}
    assert set(open_values(plan.with_edits({"load_dtype": "bf16"}))) == {"engine"}
    assert set(open_values(replace(plan, micro_batch_size=2))) == {"engine", "load_dtype"}


def test_a_plan_whose_said_values_cannot_stand_together_is_judged_as_it_stands():
    plan = plan_of("meta-llama/Llama-3.1-8B", "h100-sxm-80", ["load_dtype"])
    packed = replace(plan, base_quantization=OPEN_VALUES["base_quantization"][1], adapter=None)
    found = judged(packed)

    assert found.readings is not None and found.estimate is not None
    assert found.verdict.answer is found.readings.likely.verdict.answer


SETS = (
    {"trl": "0.19.1", "transformers": "5.1.0", "torch": "2.10"},
    {"trl": "0.19.1", "transformers": "4.53.3", "torch": "2.7"},
    {"trl": "0.18.1", "transformers": "4.52.4", "torch": "2.7"},
    {"trl": "0.16.0", "transformers": "4.52.4", "torch": "2.6"},
)


@pytest.mark.parametrize(
    ("outcomes", "library"),
    [
        ((), "trl"),
        (((1, 1, 2, 2),), "trl"),
        (((1, 2, 3, 3),), "transformers"),
        (((1, 2, 2, 3),), "torch"),
        (((1, 2, 3, 4),), "trl"),  # no library alone tells
        (((1, 2, 3, 4), (1, 2, 3, 3)), "transformers"),
        (((1, 1, 2, 2), (1, 2, 2, 2)), "trl"),
    ],
)
def test_the_library_is_named_whose_release_tells_what_a_launch_takes(outcomes, library):
    assert moved_library(SETS, *outcomes) == library


def test_what_a_value_gives_is_looked_for_where_several_fields_change_together():
    names = ("adapter", "attention", "load_dtype", "loss")
    plan = plan_of("Qwen/Qwen2.5-14B", "h100-sxm-80", names)

    def judge(reading: LaunchPlan):
        is_far = (reading.attention, reading.load_dtype) == ("sdpa", "bf16")
        is_near = (reading.attention, reading.load_dtype) == ("eager", "fp32")
        is_cut = reading.loss == "chunked_linear"
        if reading.adapter is not None:  # each change of one leads to the near end
            num_bytes = 20 - 4 * (reading.attention == "eager") - 4 * (reading.load_dtype == "fp32")
            num_bytes += 0 if is_cut else 2
        else:
            num_bytes = 15 if is_far and is_cut else 30 if is_near and is_cut else 40
        answer = Answer.FITS if num_bytes < 25 else Answer.DOES_NOT_FIT
        estimate = SimpleNamespace(
            device_peak_bytes=num_bytes, needed_bytes=num_bytes, peaks=(num_bytes,)
        )
        return estimate, Verdict(answer, "")

    readings = read_all_ways(plan, judge, None, settles=True)

    assert readings is not None and readings.least.values["attention"] == "eager"
    whole = {way.value is None: way for way in readings.deciding["adapter"]}[True]
    assert (whole.answer, whole.least.peak_bytes) == (None, 15)
