"""A length that is only a cap: the longest rows with which a refused launch fits are named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from counting_plugin import Counting
from said_versions import say_versions

from preflight.judge import estimate_memory, judge_plan
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.request import Request
from preflight.search.largest import IS_NOT_REFUSED, STEP, SURELY_FITS, largest
from preflight.search.longest import RowsThatFit, rows_that_fit
from preflight.verdict import Answer

SCRIPT = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=config).train()
"""


@pytest.fixture
def checked(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    say_versions(tmp_path)
    plugins = load_plugins()

    def check(length: int, *flags: str, device: str = "l4-24", **asked):
        words = ("accelerate", "launch", "--num_processes", "1", "train.py", "--bf16", "True")
        words += ("--model_name_or_path", "Qwen/Qwen2.5-1.5B", "--optim", "adafactor")
        words += ("--per_device_train_batch_size", "4", "--max_length", str(length), *flags)
        command = LaunchCommand(words, {}, str(tmp_path))
        return check_launch(command, plugins, Request(device, **asked))

    return check


def test_the_longest_rows_that_fit_are_named_and_are_the_longest(checked):
    report = checked(32768)
    length = report.extra["longest_seq_len"]

    assert report.verdict.answer is Answer.DOES_NOT_FIT and length % STEP == 0
    assert checked(length).verdict.answer is not Answer.DOES_NOT_FIT
    assert checked(length + STEP).verdict.answer is Answer.DOES_NOT_FIT
    assert any(f"rows of up to {length:,} tokens fit" in note for note in report.notes)
    assert report.to_dict()["longest_seq_len"] == length


@pytest.mark.parametrize("aim", [IS_NOT_REFUSED, SURELY_FITS], ids=["not refused", "fits"])
def test_few_lengths_are_asked_on_the_way_to_the_longest(aim):
    plugins, counting = load_plugins(), Counting()
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-1.5B", device="a100-sxm-80", micro_batch_size=4, seq_len=STEP
    )
    start = judge_plan(plan, plugins, AS_WRITTEN)
    plugins.register(counting, "counting")
    longest = largest(start, "seq_len", STEP, 1 << 17, aim, plugins, AS_WRITTEN)
    asked = counting.asked

    assert aim.is_met(judge_plan(replace(plan, seq_len=longest), plugins, AS_WRITTEN))
    assert not aim.is_met(judge_plan(replace(plan, seq_len=longest + STEP), plugins, AS_WRITTEN))
    assert asked <= 8


def test_rows_with_which_one_reading_fits_are_not_sure_to_fit(checked):
    report, plugins = checked(32768), load_plugins()
    opened = report.plan.with_origin("attention", Origin("nobody", True, "", ("sdpa", "eager")))

    def found(plan):
        return rows_that_fit(judge_plan(plan, plugins, Policy()), plugins, Policy())

    assert found(report.plan) == RowsThatFit(report.extra["longest_seq_len"], is_sure=True)
    assert found(opened) == RowsThatFit(report.extra["longest_seq_len"], is_sure=False)


AS_WRITTEN = Policy(rewrite=False)


@pytest.mark.parametrize(("share", "may_launch"), [(0.6, True), (0.4, False)])
def test_a_cap_refuses_alone_where_half_of_it_does_not_fit(share, may_launch, checked):
    """Whoever cuts rows at twice what the data has could cut at half: rows of half the cap are taken to come."""
    longest = checked(32768).extra["longest_seq_len"]
    report = checked(int(longest / share), policy=AS_WRITTEN)

    assert report.verdict.answer is (Answer.UNKNOWN if may_launch else Answer.DOES_NOT_FIT)
    assert report.may_launch is may_launch
    assert report.extra["longest_seq_len"] == longest
    assert (f"rows of up to {longest:,}" in report.verdict.reason) is may_launch


def test_a_cap_that_a_safe_rewrite_makes_fit_is_rewritten(checked):
    longest = checked(32768).extra["longest_seq_len"]
    report = checked(longest + STEP)

    assert report.verdict.answer is Answer.DOES_NOT_FIT
    assert report.final_verdict.answer in (Answer.FITS, Answer.TIGHT)


def test_a_length_that_somebody_says_is_no_cap(checked):
    longest = checked(32768).extra["longest_seq_len"]
    asked = {"policy": AS_WRITTEN, "settings": {"seq_len": longest + STEP}}
    report = checked(longest + STEP, **asked)

    assert report.verdict.answer is Answer.DOES_NOT_FIT and not report.may_launch


def test_packed_rows_are_as_long_as_the_cap(checked):
    report = checked(32768, "--packing", "True")

    assert report.verdict.answer is Answer.DOES_NOT_FIT
    assert "longest_seq_len" not in report.extra


def test_nothing_is_named_where_no_length_fits(checked):
    report = checked(32768, "--learning_rate", "1e-5", device="tiny:1")

    assert report.verdict.answer is Answer.DOES_NOT_FIT
    assert "longest_seq_len" not in report.extra


OPAQUE = """\
from elsewhere import built, settings
from transformers import Trainer, TrainingArguments

Trainer(model=built(), args=TrainingArguments(**settings()), train_dataset=rows).train()
"""


@pytest.mark.parametrize("device", ["a100-sxm-80", "l4-24"])
def test_of_a_script_that_is_not_followed_few_readings_are_asked_and_all_agree(
    device, tmp_path, monkeypatch
):
    """A dozen fields are open, and the releases: what decides at one length is looked at, and all of it at the end."""
    (tmp_path / "opaque.py").write_text(OPAQUE)
    plugins = load_plugins()
    words = ("torchrun", "--nproc_per_node", "8", "opaque.py")
    estimated: list[LaunchPlan] = []

    def counted(plan, *others):
        estimated.append(plan)
        return estimate_memory(plan, *others)

    def check(**settings: int):
        estimated.clear()
        request = Request(device, {"model": "Qwen/Qwen3-0.6B", "micro_batch_size": 1, **settings})
        return check_launch(LaunchCommand(words, {}, str(tmp_path)), plugins, request)

    monkeypatch.setattr("preflight.judge.estimate_memory", counted)
    report = check()
    length, num_estimates = report.extra["longest_seq_len"], len(estimated)

    assert len(report.readings.may_be) > 6
    assert check(seq_len=length).verdict.answer is Answer.FITS
    assert num_estimates < 6 * len(estimated)  # a dozen lengths were looked at
    assert check(seq_len=length + STEP).verdict.answer is not Answer.FITS
