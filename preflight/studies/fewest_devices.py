"""How many devices of a card a plan needs, and the smallest card that holds it."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.devices.gpu_table import GpuEntry, device_of, gpu_table
from preflight.devices.prices import listed_prices
from preflight.errors import BadInput
from preflight.formulas.layers.attention import with_default_attention
from preflight.formulas.precision import missing_inputs
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import MemoryEstimate
from preflight.model import ModelSpec
from preflight.plugin_manager import PluginManager
from preflight.units import ceil_div
from preflight.verdict import MARGIN_SHARE, Answer, judge

PER_NODE = 8
NODES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
NUMBERS = (1, 2, 4, *(PER_NODE * nodes for nodes in NODES))
"""Numbers of devices that are tried: parts of a node, and whole nodes."""
NO_LONGER_FALLS = 0.995
"""A peak that more ranks lower by less than this is what no sharding lowers."""


def estimate_plan(plan: LaunchPlan, model: ModelSpec, plugins: PluginManager) -> MemoryEstimate:
    missing = missing_inputs(plan, model)
    if missing:
        raise BadInput.one(f"{', '.join(missing)} must be given", fix=f"--set {missing[0]}=VALUE")
    plan = with_default_attention(plan, model)
    return estimate_memory(plan, model, None, plugins)


def fewest_devices(
    plan: LaunchPlan,
    model: ModelSpec,
    alone: MemoryEstimate,
    keys: Iterable[str],
    plugins: PluginManager,
) -> tuple[dict[str, int | None], dict[int, LaunchPlan]]:
    """Return the fewest devices of each card, and the plan on each number that was tried."""
    devices = {key: device_of_key(key) for key in keys}
    fewest: dict[str, int | None] = dict.fromkeys(devices)
    plans = {1: plan}
    peak_before = 0
    for number in NUMBERS:
        if number > 1:
            plans[number] = sharded(plan, number)
        estimate = alone if number == 1 else estimate_plan(plans[number], model, plugins)
        for key, device in devices.items():
            if fewest[key] is None and fits_on(estimate, device):
                fewest[key] = number
        peak = estimate.device_peak_bytes
        if None not in fewest.values() or (
            number > PER_NODE and peak > NO_LONGER_FALLS * peak_before
        ):
            break
        peak_before = peak
    return fewest, plans


def sharded(plan: LaunchPlan, number: int) -> LaunchPlan:
    """Return the plan under FSDP2 over a number of devices, the same micro batch on each."""
    return plan.with_edits(
        {
            "engine": "fsdp2",
            "world_size": number,
            "num_nodes": ceil_div(number, PER_NODE),
            "shard_degree": number,
            "pipeline": None,
            "reshard_after_forward": True,
            "sync_each_batch": True,
            "wrap_policy": "transformer",
            "state_dict_type": "sharded",
            "cpu_ram_efficient_loading": plan.base_quantization is None,
        }
    )


def smallest_card(estimate: MemoryEstimate) -> str | None:
    """Return the smallest card that holds an estimate; of equal ones the one with the lowest price."""
    prices = listed_prices()

    def order(entry: GpuEntry) -> tuple[int, float]:
        price = prices.get(entry.key)
        return entry.marketing_gb, float("inf") if price is None else price.usd_per_hour

    for entry in sorted(gpu_table(), key=order):
        if entry.capacity_bytes is None or entry.vendor != "NVIDIA" or not entry.bf16:
            continue
        if "unified" in entry.name or entry.key.startswith("mig-"):
            continue  # the host's memory, or a part of a card
        if fits_on(estimate, device_of_key(entry.key)):
            return entry.key
    return None


def device_of_key(key: str) -> DeviceSpec:
    entry = next((entry for entry in gpu_table() if entry.key == key), None)
    if entry is None or entry.capacity_bytes is None:
        raise BadInput.one(f"nobody has said how much memory {key} leaves to torch", "--gpu")
    return device_of(entry, entry.capacity_bytes, "the GPU table")


def fits_on(estimate: MemoryEstimate, device: DeviceSpec) -> bool:
    return judge(estimate, device, (), MARGIN_SHARE).answer is Answer.FITS
