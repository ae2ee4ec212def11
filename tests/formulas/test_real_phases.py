"""Loading, evaluation, checkpoints and offloaded states on real gloo ranks against the terms of the estimate."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from small_llama import LLAMA as CONFIG
from small_llama import ZERO as BUCKETS
from some_plugins import plugins_of

from preflight.judge import estimate_memory
from preflight.launch import Adapter, BaseQuantization, DeepSpeedSettings, LaunchPlan
from preflight.memory import ALWAYS, Level, Moment
from preflight.models import describe

SCRIPT = Path(__file__).with_name("real_phases.py")
MICRO, LENGTH = 2, 8
ZERO = {**BUCKETS, "stage3_gather_16bit_weights_on_model_save": True}
HOST = {"device": "cpu", "pin_memory": True}
QLORA = {"load": "bf16", "lora": 8}

CASES = {
    2: {
        "fsdp2": {"engine": "fsdp2", "reshard": True, "load": "bf16"},
        "fsdp2 broadcast": {"engine": "fsdp2", "reshard": True, "ram_efficient": True},
        "fsdp2 kept": {
            "engine": "fsdp2", "reshard": False, "accumulation": 2, "sync_each": True,
            "state_dict_type": "SHARDED_STATE_DICT",
        },
        "fsdp2 offloaded": {
            "engine": "fsdp2", "reshard": True, "ram_efficient": True, "offload": {"fsdp": True},
            "saves": False,
        },
        "fsdp1": {"engine": "fsdp1", "reshard": "FULL_SHARD", "load": "bf16"},
        "fsdp1 fp16": {
            "engine": "fsdp1", "reshard": "FULL_SHARD", "mixed_precision": "fp16",
            "state_dict_type": "SHARDED_STATE_DICT",
        },
        "fsdp2 nf4": {"engine": "fsdp2", "reshard": True, "storage": "bfloat16", **QLORA},
        "fsdp2 nf4 whole": {
            "engine": "fsdp2", "reshard": True, "storage": "uint8", "double_quant": True,
            "saves": False, **QLORA,
        },
        "fsdp1 nf4": {
            "engine": "fsdp1", "reshard": "FULL_SHARD", "storage": "bfloat16", "saves": False,
            **QLORA,
        },
        "zero0": {"engine": "zero0"},
        "zero1": {"engine": "zero1", "load": "bf16", "mixed_precision": "fp16"},
        "zero2 nf4": {"engine": "zero2", "storage": "uint8", **QLORA},
        "zero2 offloaded": {
            "engine": "zero2", "accumulation": 2, "offload": {"offload_optimizer": HOST},
        },
        "zero3": {"engine": "zero3", "accumulation": 2},
        "zero3 offloaded": {
            "engine": "zero3", "mixed_precision": "fp16", "load": "bf16",
            "offload": {"offload_optimizer": HOST, "offload_param": HOST},
        },
    },
    4: {
        "fsdp2 replicated": {"engine": "fsdp2", "reshard": True, "replicas": 2, "load": "bf16"},
        "fsdp1 on 4": {"engine": "fsdp1", "reshard": "FULL_SHARD", "load": "bf16"},
    },
}  # fmt: skip
WORLD_OF = {name: world for world, cases in CASES.items() for name in cases}
CASE = {name: {"load": "fp32", "offload": {}, **case} for cases in CASES.values() for name, case in cases.items()}  # fmt: skip
EXACT_BYTES = 4096
"""Step counters, losses, tables of a quantized weight, padding of partitions."""
PEAK_TOLERANCE = 0.03
QUANTIZED_TOLERANCE = 0.15
"""Units are counted in 16-bit elements, norms and all."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory, ranks) -> dict[str, list[dict]]:
    """One launch per world size takes every case through its phases: a list of ranks each."""
    results: dict[str, list[dict]] = {}
    folder = tmp_path_factory.mktemp("checkpoint")
    for world, cases in CASES.items():
        common = {"config": CONFIG, "micro": MICRO, "length": LENGTH, "zero": ZERO}
        given = [{**common, "name": name, **CASE[name]} for name in cases]
        printed = ranks.printed(SCRIPT, json.dumps(given), str(folder), world=world)
        results.update(json.loads(printed.splitlines()[-1]))
    return results


def plan_of(name: str) -> LaunchPlan:
    case, world = CASE[name], WORLD_OF[name]
    shard = world // case.get("replicas", 1)
    reshard, offload = case.get("reshard"), case["offload"]
    return LaunchPlan(
        engine=case["engine"], world_size=world, shard_degree=shard,
        replicate_degree=world // shard, micro_batch_size=MICRO, eval_micro_batch_size=MICRO,
        seq_len=LENGTH, mixed_precision=case.get("mixed_precision", "bf16"),
        load_dtype=case["load"], trainer="transformers", loss="full_logits", attention="sdpa",
        sequence_kind="fixed", reshard_after_forward=reshard in (True, "FULL_SHARD"),
        gradient_accumulation_steps=case.get("accumulation", 1),
        sync_each_batch=case.get("sync_each", False), optimizer="adamw_torch",
        cpu_ram_efficient_loading=case.get("ram_efficient", False),
        state_dict_type="sharded" if "state_dict_type" in case else "full",
        offload_params="cpu" if offload.keys() & {"fsdp", "offload_param"} else "none",
        offload_optimizer="cpu" if "offload_optimizer" in offload else "none",
        adapter=Adapter(rank=case["lora"], targets=("q_proj", "v_proj")) if "lora" in case else None,
        base_quantization=BaseQuantization(
            "nf4", case.get("double_quant", False), "bf16", case["storage"]
        ) if "storage" in case else None,
        deepspeed=DeepSpeedSettings(**ZERO) if case["engine"].startswith("zero") else None,
    )  # fmt: skip


@cache
def estimate_of(name: str):
    plugins = plugins_of("memory_")
    config = {**CONFIG, "dtype": "bfloat16"}
    return estimate_memory(plan_of(name), describe(config, "tiny", "test"), None, plugins)


def predicted(name: str, *moments: Moment, level: Level = Level.ALLOCATED) -> int:
    """Return the largest sum of some moments; of the host without the processes."""
    return max(
        sum(
            t.num_bytes
            for t in estimate_of(name).terms_at(moment)
            if t.level is level and t.name not in ("host: processes", ROUNDING)
        )
        for moment in moments
    )


ROUNDING = "host: rounding of pinned blocks"
CLONES = "host: copy of the weights on every rank"


@pytest.mark.launch
@pytest.mark.parametrize("name", WORLD_OF)
def test_what_lasts_is_exact(name, measured):
    """Between steps: parameters, packed weights, masters, states, buckets, on the device and offloaded."""
    rank = measured[name][0]
    always = [t for t in estimate_of(name).terms if t.moments == ALWAYS]
    device = sum(t.num_bytes for t in always if t.level is Level.ALLOCATED)
    hidden = ("host: processes", ROUNDING)
    host = sum(t.num_bytes for t in always if t.level is Level.HOST and t.name not in hidden)
    host //= WORLD_OF[name]
    real = rank["between"] - rank["buffers"]
    if not CASE[name]["offload"]:
        real -= rank["flat_gradients"]
    rounding = EXACT_BYTES
    if CASE[name].get("storage") == "bfloat16":
        rounding += scale_bytes()  # whole on every rank
    if CASE[name].get("double_quant"):
        rounding *= 8  # a table of 1 KiB for each packed weight
    if "fsdp" in CASE[name]["offload"]:
        # freed by zero_grad; a pinned block stays with torch's allocator on a machine with a GPU
        host -= 4 * rank["num_params"] // WORLD_OF[name]
    if name == "zero2 offloaded":
        # a parameter that ends in the next rank's partition is accumulated whole
        rounding += 2 * CONFIG["hidden_size"] * CONFIG["intermediate_size"]

    assert rank["num_params"] == measured[name][-1]["num_params"]
    assert abs(device + host - real) <= rounding
    if "host" in rank:
        assert abs(host - rank["host"]) <= rounding
    if "storage" not in CASE[name]:
        states = rank["states"]
        assert states == 8 * rank["num_params"] // (
            plan_of(name).shard_degree if name != "zero0" else 1
        )


def scale_bytes() -> int:
    """Return the bytes of the scales of all packed weights: fp32, one for 64 elements."""
    packed = sum(
        unit.count * tensor.num_params
        for unit, tensor in describe(CONFIG, "tiny", "test").tensors()
        if unit.role == "layer" and len(tensor.shape) == 2
    )
    return 4 * packed // 64


@pytest.mark.launch
@pytest.mark.parametrize("name", [n for n in WORLD_OF if CASE[n]["offload"].keys() - {"fsdp"}])
def test_pinned_blocks_are_those_that_are_rounded(name, measured):
    """ZeRO pins whole partitions: each block becomes a power of two. Single parameters are left out."""
    rank = measured[name][0]
    blocks = [size for size in rank["pinned"] if size > 1_000_000]
    rounding = sum((1 << (size - 1).bit_length()) - size for size in blocks)
    terms = {t.name: t.num_bytes for t in estimate_of(name).terms}

    assert terms[ROUNDING] / WORLD_OF[name] == pytest.approx(rounding, rel=0.01)


@pytest.mark.launch
@pytest.mark.parametrize("name", [n for n in WORLD_OF if "storage" not in CASE[n]])
def test_every_rank_loads_the_whole_model(name, measured):
    """On the host, `cpu_ram_efficient_loading` or not; under ZeRO-3 every rank has its shard alone."""
    case, num_params = CASE[name], measured[name][0]["num_params"]
    loaded = (4 if case["load"] == "fp32" else 2) * num_params
    if case["engine"] == "zero3":
        loaded = 2 * num_params // WORLD_OF[name]
    for rank in measured[name]:
        assert abs(rank["loaded"] - rank["buffers"] - loaded) <= EXACT_BYTES
        if case["engine"] == "fsdp2" and case["load"] == "bf16":
            assert abs(rank["upcast"] - 4 * num_params) <= EXACT_BYTES
            host = predicted(name, Moment.PREPARE, level=Level.HOST) // WORLD_OF[name]
            assert host == 4 * num_params


@pytest.mark.launch
@pytest.mark.parametrize("name", WORLD_OF)
def test_peaks_of_load_evaluation_and_save(name, measured):
    """On the last rank, which gathers on the device alone."""
    case, rank = CASE[name], measured[name][-1]
    peaks, is_zero = rank["peaks"], case["engine"].startswith("zero")
    on_host = rank.get("host", rank["between"] if case["offload"] else 0)
    pairs = {}
    if "storage" not in case:  # bitsandbytes unpacks a weight on a CPU in more copies than on a GPU
        evaluation = peaks["evaluation"] - on_host
        pairs["evaluation"] = evaluation, predicted(name, Moment.EVALUATION)
    if not (is_zero and case["offload"]):
        sharded = rank["shards"] if case["offload"] else 0
        prepare = peaks["prepare"] - rank.get("upcast", 0) - sharded
        pairs["prepare"] = prepare, predicted(name, Moment.PREPARE)
    if case["engine"] == "zero3" and not case["offload"]:
        pairs["load"] = peaks["load"], predicted(name, Moment.LOAD)
    if case.get("saves", True) and name != "fsdp1 fp16":  # its shards go to the host one by one
        pairs["save"] = saved(name, rank) - on_host, predicted(name, Moment.SAVE)
    tolerance = QUANTIZED_TOLERANCE if "storage" in case else PEAK_TOLERANCE
    for phase, (real, ours) in pairs.items():
        assert ours == pytest.approx(real, rel=tolerance), f"{phase}: {real:,}, formula {ours:,}"


def saved(name: str, rank: dict) -> int:
    """Return the peak of a save on a rank without what it copied to the host."""
    case, peaks = CASE[name], rank["peaks"]
    if case["engine"] in ("zero0", "zero1", "zero2"):
        clones = next(t for t in estimate_of(name).terms if t.name == CLONES)
        return peaks["save"] - clones.num_bytes // WORLD_OF[name]
    if case["engine"] == "zero3":
        return peaks["save"]
    if case["engine"] == "fsdp2":
        if "storage" in case:  # the base is gathered with the weights, and has no optimizer state
            return peaks["save"]
        # one and the same gather; gloo's threads may hold on to the one before
        return (
            peaks["save_optimizer"]
            if "state_dict_type" in case
            else min(peaks["save"], peaks["save_optimizer"])
        )
    return max(peaks["save"], peaks["save_optimizer"])


@pytest.mark.launch
@pytest.mark.parametrize("name", [n for n in WORLD_OF if CASE[n]["engine"] in ("fsdp2", "zero3")])
def test_rank_0_holds_a_full_checkpoint_on_the_host(name, measured):
    """Of weights and optimizer states the larger: they are gathered one after the other."""
    case, rank = CASE[name], measured[name][0]
    if not case.get("saves", True) or "state_dict_type" in case or "storage" in case:
        return
    peaks = rank["peaks"]
    more = max(peaks["save"], peaks.get("save_optimizer", 0)) - rank["between"]
    lasting = sum(
        t.num_bytes
        for t in estimate_of(name).terms
        if t.level is Level.HOST and t.moments == ALWAYS and t.name != ROUNDING
    )
    ours = predicted(name, Moment.SAVE, level=Level.HOST) - lasting

    assert more == pytest.approx(ours, rel=PEAK_TOLERANCE)
