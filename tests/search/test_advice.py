"""Advice for launches that nothing safe helps: the fewest devices, larger ones and prices are what trying all of them gives."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from in_process import preflight
from test_lattice import START

from preflight.advice import Advice
from preflight.devices.gpu_table import device_of, gpu_table
from preflight.devices.prices import listed_prices
from preflight.errors import Problem
from preflight.hookspecs import hookimpl
from preflight.judge import Judged, judge_plan
from preflight.launch import Origin
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.remedy import SUGGESTED_ADAPTER
from preflight.report import Report
from preflight.request import Request
from preflight.search.advise import _Sizes, advise
from preflight.unpriced_names import STATE_DICT_ON_CARD
from preflight.verdict import Answer

MOST_ESTIMATES = 12
"""An estimate is about a millisecond, and advice may take fifteen (on one core of 2025, idle)."""

SMALL = replace(START, micro_batch_size=1, reshard_after_forward=True)
ALONE = {"engine": "single", "world_size": 1, "shard_degree": 1, "reshard_after_forward": None}
PLANS = {
    "405B on 8": replace(SMALL, model="meta-llama/Llama-3.1-405B"),
    "70B on 8": replace(SMALL, model="meta-llama/Llama-3.1-70B"),
    "70B on 16 with tensor parallelism": replace(
        SMALL,
        model="meta-llama/Llama-3.1-70B",
        world_size=16,
        num_nodes=2,
        shard_degree=4,
        tensor_parallel_degree=4,
        device="a100-sxm-40",
    ),
    "8B alone": replace(SMALL, **ALONE, device="rtx4090-24"),
    "32B LoRA under DDP": replace(
        SMALL,
        model="Qwen/Qwen2.5-32B",
        engine="ddp",
        shard_degree=1,
        reshard_after_forward=None,
        device="a6000-48",
        adapter=SUGGESTED_ADAPTER,
    ),
    "30B experts on 4": replace(SMALL, model="Qwen/Qwen3-30B-A3B", world_size=4, shard_degree=4),
    "8B under ZeRO-2": replace(
        SMALL,
        engine="zero2",
        world_size=2,
        shard_degree=2,
        reshard_after_forward=None,
        device="a100-sxm-40",
    ),
    "half a million tokens": replace(SMALL, seq_len=524288),
}

WHOLE_STATES = Problem.left_out("the whole model is gathered", "", STATE_DICT_ON_CARD, "more")
GATHERING = replace(
    SMALL,
    model="meta-llama/Llama-2-13b-hf",
    engine="fsdp1",
    trainer="transformers",
    world_size=2,
    shard_degree=2,
    notices=(WHOLE_STATES,),
)
LEAVING_OUT = {
    "13B whose state dict is gathered": GATHERING,
    "8B whose state dict is gathered": replace(GATHERING, model=START.model, device="a6000-48"),
}
"""What is bounded fits beside a launch on more ranks only, and is named on fewer."""


OPEN = {
    "a loss that nobody said": replace(
        SMALL, **ALONE, device="rtx4090-24", seq_len=30000, loss="chunked_linear"
    ).with_origin("loss", Origin("nobody", True, "", may_be=("full_logits",))),
}


class Counting:
    """A plugin that adds no term, and counts how often it is asked for one: once an estimate."""

    def __init__(self) -> None:
        self.num_estimates = 0

    @hookimpl
    def preflight_memory_terms(self, plan, model):
        self.num_estimates += 1
        return ()


def advised(plan, plugins) -> tuple[Advice, Judged]:
    start = judge_plan(plan, plugins, Policy())
    report = Report(plan=start.plan, verdict=start.verdict, model=start.model, device=start.device)
    advice = advise(report, start, plugins, Policy()).advice
    assert advice is not None
    return advice, start


EVERY = {**PLANS, **LEAVING_OUT}


@pytest.mark.parametrize("plan", EVERY.values(), ids=EVERY)
def test_the_fewest_devices_are_those_of_trying_every_number(plan, plugins):
    advice, start = advised(plan, plugins)
    for method in advice.methods:

        def judge(plan) -> Judged:
            return judge_plan(plan, plugins, Policy(), start.model, start.device)

        sizes = _Sizes(start.plan.with_edits(method.edits), judge)
        tried = {size: sizes.judged(size) for size in sizes.sizes}
        fit = [n for n, j in tried.items() if j and j.verdict.answer is Answer.FITS]

        assert method.least_ranks == (min(fit) if fit else None), method.method
        if method.least_ranks:
            at = tried[method.least_ranks]
            assert method.least_nodes == at.plan.num_nodes
            assert method.least_peak_bytes == at.estimate.device_peak_bytes


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_advice_takes_few_estimates(plan, plugins):
    counting = Counting()
    plugins = load_plugins()
    plugins.register(counting, "counting")
    advised(plan, plugins)

    assert 1 < counting.num_estimates <= 1 + MOST_ESTIMATES


@pytest.mark.parametrize("plan", (PLANS | OPEN).values(), ids=PLANS | OPEN)
def test_a_larger_device_is_the_cheapest_of_all_that_fit(plan, plugins):
    advice, start = advised(plan, plugins)
    sizes = _Sizes(
        start.plan, lambda at: judge_plan(at, plugins, Policy(), start.model, start.device)
    )
    compact = sizes.judged(start.plan.world_size).plan
    prices = listed_prices()
    fit = []
    for entry in gpu_table():
        capacity = entry.capacity_bytes or 0
        if capacity <= start.device.capacity_bytes or entry.key.startswith("mig-"):
            continue
        device = device_of(entry, capacity, "")
        judged = judge_plan(compact, plugins, Policy(), start.model, device)
        if entry.vendor == "NVIDIA" and entry.bf16 and judged.verdict.answer is Answer.FITS:
            fit.append(prices[entry.key].usd_per_hour if entry.key in prices else float("inf"))

    assert (advice.device is None) is (not fit)
    if advice.device is not None and min(fit) < float("inf"):
        assert advice.device.usd_per_hour == min(fit) * start.plan.world_size


def test_the_ladder_starts_at_the_method_of_the_launch(plugins):
    methods = [m.method for m in advised(PLANS["70B on 8"], plugins)[0].methods]
    below = [m.method for m in advised(PLANS["32B LoRA under DDP"], plugins)[0].methods]

    assert methods == ["full", "lora", "qlora"]
    assert below == ["lora", "qlora"]


def test_what_can_be_made_to_fit_gets_no_advice(plugins):
    fits = check_plan(replace(SMALL, model="meta-llama/Llama-3.2-1B"), plugins, Request())

    assert fits.verdict.answer is Answer.FITS
    assert fits.advice is None
    assert fits.to_dict()["advice"] is None


def test_a_forbidden_method_is_not_advised(plugins):
    request = Request(policy=Policy(forbid=frozenset({"qlora"})))
    report = check_plan(PLANS["70B on 8"], plugins, request)

    assert [m.method for m in report.advice.methods] == ["full", "lora"]


def test_every_listed_price_is_of_a_known_card_and_says_where_it_is_from():
    keys = {entry.key for entry in gpu_table()}
    prices = listed_prices()

    assert set(prices) <= keys
    assert len(prices) >= 15
    for price in prices.values():
        assert 0.05 < price.usd_per_hour < 20
        assert price.source and price.as_of


@pytest.fixture
def folder(tmp_path):
    plan = {name: value for name, value in PLANS["70B on 8"].to_dict().items() if value is not None}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"plan": plan}))
    (tmp_path / "prices.yaml").write_text("h100-sxm-80: 2\nb200-sxm-180: 4.5\n")
    return tmp_path


def test_a_refused_report_ends_with_what_would_fit(folder):
    done = preflight(folder, "estimate", "plan.yaml", "--device", "h100-sxm-80")
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("what would fit"))

    assert done.returncode == 1
    assert "24 (3 nodes)" in done.stdout
    assert "Biderman et al. 2024" in done.stdout
    assert len(lines) - start <= 12


def test_prices_of_ones_own_take_the_place_of_the_listed_ones(folder):
    words = ["--device", "h100-sxm-80", "--format", "json", "--prices", "prices.yaml"]
    advice = json.loads(preflight(folder, "estimate", "plan.yaml", *words).stdout)["advice"]
    full = advice["methods"][0]

    assert full["usd_per_hour"] == 2 * full["least_ranks"]
    assert advice["larger_device"]["usd_per_hour"] == 4.5 * 8
    assert advice["prices"] == {"h100-sxm-80": "prices.yaml", "b200-sxm-180": "prices.yaml"}


def test_every_wrong_price_is_named_with_its_line(folder):
    (folder / "prices.yaml").write_text("h100-sxm-80: cheap\nh100-sxm-8: 2\n")
    done = preflight(folder, "estimate", "plan.yaml", "--prices", "prices.yaml")

    assert done.returncode == 2
    assert "h100-sxm-80 must be dollars per GPU and hour, not 'cheap'" in done.stderr
    assert "prices.yaml:2" in done.stderr
    assert "did you mean" in done.stderr
