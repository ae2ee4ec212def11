"""Host memory of a node is judged like the device's, where somebody says how much there is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from every_plan import every_plan
from unfit_launches import command_of, request_of

from preflight.devices.step_time import estimate_step_time
from preflight.judge import judge_plan
from preflight.launch import LaunchPlan
from preflight.memory import PHASE_MOMENTS, Level, MemoryTerm, Moment, Phase
from preflight.node.this_node import host_limit
from preflight.peaks import estimate_peaks
from preflight.pipeline import check_launch, check_plan
from preflight.plan_dict import plan_from_dict
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.remedy import Remedy
from preflight.render.page import Page
from preflight.render.report import report_lines
from preflight.report import Report
from preflight.request import Request
from preflight.search.best_plans import best_plans, key_of
from preflight.search.lattice import Lattice
from preflight.units import GIB
from preflight.verdict import Answer, judge

OFFLOADED = {
    "model": "meta-llama/Llama-3.1-8B",
    "trainer": "transformers",
    "engine": "zero3",
    "world_size": 8,
    "shard_degree": 8,
    "mixed_precision": "bf16",
    "load_dtype": "bf16",
    "optimizer": "deepspeed_cpu_adam",
    "offload_optimizer": "cpu",
    "offload_params": "cpu",
    "micro_batch_size": 1,
    "seq_len": 4096,
    "activation_checkpointing": "full",
    "attention": "sdpa",
    "loss": "full_logits",
}
ON_DEVICE = {
    **OFFLOADED,
    "engine": "fsdp2",
    "optimizer": "adamw_torch_fused",
    "offload_optimizer": "none",
    "offload_params": "none",
    "activation_checkpointing": "none",
    "micro_batch_size": 2,
    "reshard_after_forward": True,
    "wrap_policy": "transformer",
}
NAME = "7b_fsdp1_grad_op"
OFFLOADS = {"offload_optimizer", "offload_params", "offload_activations"}


def report_of(plan: LaunchPlan, plugins: PluginManager, gib: int | None, **policy) -> Report:
    settings = {} if gib is None else {"host_memory_gib": gib}
    request = Request(device="h100-sxm-80", settings=settings, policy=Policy(**policy))
    return check_plan(plan, plugins, request)


def test_what_fits_the_device_and_not_the_host_does_not_fit_and_says_so(plugins):
    plan = plan_from_dict(OFFLOADED)
    report = report_of(plan, plugins, 100)
    shown = report_lines(report, "check", Page())

    assert report.verdict.answer is Answer.DOES_NOT_FIT
    assert (report.verdict.failing_level, report.verdict.failing_phase) == (
        Level.HOST,
        report.estimate.host_peak_phase,
    )
    assert report.to_dict()["failing_level"] == "host"
    assert not report.may_launch
    assert "177.9 of 100.0 GiB of host memory per node, dies of host memory" in shown[0]
    assert any(line.split()[2:] == ["offloaded", "optimizer"] for line in shown)


@pytest.mark.parametrize(
    ("gib", "wanted"),
    [(150, Answer.DOES_NOT_FIT), (170, Answer.TIGHT), (200, Answer.FITS), (None, Answer.FITS)],
)
def test_only_what_is_counted_refuses_and_the_allowance_makes_tight(gib, wanted, plugins):
    """156 GiB are counted, and 24 GiB are an allowance for eight processes."""
    report = report_of(plan_from_dict(OFFLOADED), plugins, gib)

    assert report.verdict.answer is wanted


def test_a_host_of_unknown_size_is_assumed_to_be_enough_and_shown(plugins):
    report = report_of(plan_from_dict(OFFLOADED), plugins, None)
    without = report_of(plan_from_dict(ON_DEVICE), plugins, None)
    shown = " ".join(report_lines(report, "check", Page()))

    assert "nobody said" in report.assumed["host_memory_gib"]
    assert "host: 177.9 GiB per node" in shown
    assert "host_memory_gib" not in without.assumed


def test_the_device_is_named_first_where_both_are_short():
    terms = [
        MemoryTerm("weights", 90 * GIB, frozenset(PHASE_MOMENTS[Phase.FORWARD])),
        MemoryTerm(
            "host: copies", 90 * GIB, frozenset(PHASE_MOMENTS[Phase.LOAD]), level=Level.HOST
        ),
    ]
    device = load_plugins().first(
        "preflight_describe_device", plan=replace(LaunchPlan(), device="h100-sxm-80")
    )
    both = judge(estimate_peaks(terms), device, host_bytes=80 * GIB)
    small = judge(
        estimate_peaks([replace(terms[0], num_bytes=1), terms[1]]), device, host_bytes=80 * GIB
    )

    assert both.failing_level is Level.DEVICE
    assert (small.failing_level, small.failing_phase) == (Level.HOST, Phase.LOAD)
    assert Moment.LOAD in terms[1].moments


def safe(remedy: Remedy) -> bool:
    return remedy.keeps_training


@pytest.mark.parametrize("gib", [40, 80, 160, 400])
@pytest.mark.parametrize("start", [ON_DEVICE, OFFLOADED], ids=["on device", "offloaded"])
def test_with_a_known_host_the_answer_is_still_the_best_of_all_plans(start, gib, plugins):
    """Offloads make a plan smaller on the device and larger on the host: the bounds must not cut either off."""
    kept = (
        "micro_batch",
        "activation_checkpointing",
        "stage3_live_parameters",
        "on_device",
        *OFFLOADS,
    )
    plan = replace(plan_from_dict(start), device="a100:31", host_memory_gib=gib)
    judged = judge_plan(plan, plugins, Policy())
    time = estimate_step_time(judged.plan, judged.model, judged.device)

    def judge_again(edited: LaunchPlan):
        return judge_plan(edited, plugins, Policy(), judged.model, judged.device)

    lattice = Lattice(judged, plugins, judge_again, lambda r: safe(r) and r.id in kept, time)
    found = best_plans(lattice, lambda one: one.verdict.answer is Answer.FITS)
    every = [
        key_of(doses, reached)
        for doses, reached in every_plan(lattice)
        if lattice.estimate(reached).verdict.answer is Answer.FITS
    ]

    assert [solution.key for solution in found] == sorted(every)[:1]


def test_a_large_host_is_used_where_that_is_faster_and_a_small_one_is_left_alone(plugins):
    found = {}
    for gib in (64, 2000):
        policy = Policy(allow=frozenset(OFFLOADS))
        request = replace(request_of(NAME), policy=policy, settings={"host_memory_gib": gib})
        report = check_launch(command_of(NAME), plugins, request)
        found[gib] = report.applied[-1]
        assert report.final_verdict.answer is Answer.FITS
        assert found[gib].estimate.host_peak_bytes_per_node <= gib * GIB
        assert not any("assumed" in note for note in report.notes)

    assert found[2000].step_time_factor <= found[64].step_time_factor


def test_a_rewrite_that_needs_a_host_of_unknown_size_says_how_much(plugins):
    policy = Policy(allow=frozenset(OFFLOADS))
    report = check_launch(command_of(NAME), plugins, replace(request_of(NAME), policy=policy))
    needs = [tried.remedy.id for tried in report.applied if tried.remedy.needs_host]

    assert bool(needs) == any("of host memory, which is assumed" in note for note in report.notes)
    assert needs


def test_a_host_that_is_too_small_is_told_what_could_stay_on_the_device(plugins):
    plan = plan_from_dict(OFFLOADED)
    report = report_of(plan, plugins, 100)
    back = next(t for t in report.suggested if t.remedy.id == "no_offload")
    enough = report_of(plan, plugins, 400)

    assert back.verdict.answer is Answer.FITS
    assert back.estimate.host_peak_bytes_per_node < 100 * GIB
    assert back.plan.offload_optimizer == back.plan.offload_params == "none"
    assert "no_offload" not in [t.remedy.id for t in enough.suggested]
    assert report_of(plan, plugins, 100, forbid=frozenset({"no_offload"})).suggested != (
        report.suggested
    )


def test_where_the_ranks_start_here_this_node_is_the_host(plugins, tmp_path):
    """MemTotal and a cgroup's limit do not move; what is free now does, and is a finding."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 104857600 kB\nMemAvailable: 1 kB\n")
    plan = replace(LaunchPlan(), on_this_node=True)
    limit = host_limit(plan, str(tmp_path))

    assert limit is not None
    assert (limit.num_bytes, limit.said_by) == (100 * GIB, "MemTotal")
    assert host_limit(LaunchPlan(), str(tmp_path)) is None


def host_gb(plugins, **values) -> float:
    judged = judge_plan(plan_from_dict(values), plugins, Policy())
    assert judged.estimate is not None
    return judged.estimate.host_peak_bytes_per_node / 1e9


def test_host_memory_is_what_threads_say_that_it_was(plugins):
    """Excerpts of public threads: DeepSpeed#3448 offloads 33B, which died with 600 GB and needs 750 to 800;
    transformers PR#25107 loads 40B in fp32 on each of 8 ranks, 1280 GB. Neither names what stood beside it."""
    of_33b = {
        "model_type": "llama",
        "hidden_size": 6656,
        "intermediate_size": 17920,
        "num_hidden_layers": 60,
        "num_attention_heads": 52,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    }
    offloaded = host_gb(plugins, **{**OFFLOADED, "model": "33B", "model_config": of_33b})
    loaded = host_gb(
        plugins,
        **{
            **ON_DEVICE,
            "model": "tiiuae/falcon-40b",
            "engine": "fsdp1",
            "load_dtype": "fp32",
            "cpu_ram_efficient_loading": False,
            "state_dict_type": "sharded",
            "versions": {"transformers": "4.31.0", "torch": "2.0.1"},
        },
    )

    assert 600 < offloaded < 800
    assert loaded == pytest.approx(1280, rel=0.1)
