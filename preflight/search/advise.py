"""Finding advice for a launch that no safe change makes fit: methods, numbers of devices, and larger ones.

Every plan here is the launch in its compact form: everything recomputed, one sequence at a time, states, gradients
and weights sharded over all ranks, nothing on the host. Peaks fall with the number of ranks, so a few estimates find
the least one: what is sharded and what is not follow from two peaks, and say where to look next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from preflight.advice import Advice, DeviceAdvice, MethodAdvice
from preflight.device import DeviceSpec
from preflight.devices.gpu_table import GpuEntry, device_of, gpu_table
from preflight.devices.prices import Price, listed_prices
from preflight.errors import BadInput
from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.judge import Judged, checked_item, judge_plan
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.remedy import Remedy
from preflight.report import Report
from preflight.units import ceil_div
from preflight.values import dataclass, replace
from preflight.verdict import Answer, judge

USUAL_NODE = 8
"""Devices of a node where the launch has fewer."""
NODES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of whole nodes that are tried, and on one node 1, 2 and 4 devices."""
FITS = Answer.FITS


def advise(
    report: Report,
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    own_prices: Mapping[str, Price] | None = None,
) -> Report:
    """Return the report of a launch that nothing makes fit with advice, where enough is known to give any."""
    device, model = start.device, start.model
    if report.verdict.missing or device is None or model is None or not model.layers:
        return report

    def judged(plan: LaunchPlan) -> Judged:
        return judge_plan(plan, plugins, policy, model, device, settles=False)

    prices = dict(listed_prices())
    prices.update(own_prices or {})
    price = prices.get(device.key or "")
    methods: list[MethodAdvice] = []
    own: Judged | None = None
    for method, remedy in methods_of(start.plan, model, device, plugins, policy):
        plan = start.plan if remedy is None else start.plan.with_edits(remedy.edits)
        sizes = _Sizes(plan, judged)
        here = sizes.judged(plan.world_size)
        if here is None or here.estimate is None or not here.estimate.peaks:
            continue
        own = own or here
        least = sizes.least()
        at_least = None if least is None else sizes.judged(least)
        methods.append(
            MethodAdvice(
                method,
                num_trainable_params(plan, model),
                here.estimate.device_peak_bytes,
                here.verdict.answer.value,
                least,
                None if at_least is None else at_least.plan.num_nodes,
                None
                if at_least is None or at_least.estimate is None
                else at_least.estimate.device_peak_bytes,
                None if price is None or least is None else price.usd_per_hour * least,
                {} if remedy is None else remedy.edits,
                "" if remedy is None else remedy.how,
            )
        )
    if own is None:
        return report
    larger = _larger_device(own, device, prices, policy.margin_of(own.plan.engine))
    named = [device.key or ""] + ([larger.key] if larger is not None else [])
    told = {key: prices[key].words for key in named if key in prices}
    return replace(report, advice=Advice(tuple(methods), larger, told))


def methods_of(
    plan: LaunchPlan,
    model: ModelSpec,
    device: DeviceSpec | None,
    plugins: PluginManager,
    policy: Policy,
) -> list[tuple[str, Remedy | None]]:
    """Return the launch's own method and those below it on the ladder that a policy allows, with what makes them."""
    offered = plugins.collect("preflight_remedies", plan=plan, model=model, device=device)
    remedies = [checked_item(item, Remedy, owner, "preflight_remedies") for owner, item in offered]
    own = "full" if plan.adapter is None else "lora" if plan.base_quantization is None else "qlora"
    ladder: list[tuple[str, Remedy | None]] = [(own, None)]
    for method in ("lora", "qlora"):
        made = next((remedy for remedy in remedies if remedy.id == method), None)
        if made is not None and method not in (own, *policy.forbid):
            ladder.append((method, made))
    return ladder


@dataclass(frozen=True)
class _Tried:
    num_ranks: int
    peak_bytes: int


class _Sizes:
    """A plan in compact form on any number of ranks."""

    def __init__(self, plan: LaunchPlan, judge: Callable[[LaunchPlan], Judged]) -> None:
        self.plan, self.judge = plan, judge
        self.per_node = max(plan.ranks_per_node, USUAL_NODE if plan.num_nodes == 1 else 1)
        self.group = plan.ranks_per_sample
        is_cut = plan.is_fsdp or (plan.zero_stage or 0) > 0
        self.uncut = (
            plan.world_size // (plan.shard_degree * plan.replicate_degree) if is_cut else self.group
        )
        below = [size for size in (1, 2, 4, 8) if size < self.per_node]
        whole = [num_nodes * self.per_node for num_nodes in NODES]
        self.sizes = [size for size in (*below, *whole) if size % self.group == 0]
        self._judged: dict[int, Judged | None] = {}

    def judged(self, num_ranks: int) -> Judged | None:
        """Return what the plan is estimated at; None where it cannot run on so many."""
        if num_ranks not in self._judged:
            try:
                self._judged[num_ranks] = self.judge(self._at(num_ranks))
            except BadInput:
                self._judged[num_ranks] = None
        return self._judged[num_ranks]

    def _at(self, num_ranks: int) -> LaunchPlan:
        plan = self.plan
        engine = plan.engine
        if engine in ("single", "ddp"):
            engine = "fsdp2" if num_ranks > 1 else "single"
        elif plan.is_fsdp and num_ranks == 1:
            engine = "single"
        elif plan.zero_stage is not None:
            engine = "zero3"
        sequences = plan.global_batch_size or 1
        at_once = max(1, num_ranks // self.group)
        return plan.with_edits(
            {
                "engine": engine,
                "world_size": num_ranks,
                "num_nodes": ceil_div(num_ranks, self.per_node),
                "shard_degree": 1 if engine == "single" else max(1, num_ranks // self.uncut),
                "replicate_degree": 1,
                "reshard_after_forward": True if engine.startswith("fsdp") else None,
                "micro_batch_size": 1,
                "gradient_accumulation_steps": max(1, sequences // at_once),
                "activation_checkpointing": "full",
                "offload_params": "none",
                "offload_optimizer": "none",
                # Unsharded gradients between micro steps are a choice, and not a need.
                "sync_each_batch": engine.startswith("fsdp"),
            }
        )

    def least(self) -> int | None:
        """Return the fewest ranks on which the plan fits."""
        low, high = -1, len(self.sizes)
        is_packed = self.plan.base_quantization is not None
        # Several ranks each load the packed base whole, and may need more than one does.
        if (is_packed or self.plan.world_size == 1) and self._fits_alone():
            return 1
        known: list[_Tried] = []
        while high - low > 1:
            at = min(max(self._guess(known), low + 1), high - 1)
            size = self.sizes[at]
            judged = self.judged(size)
            if judged is None or judged.estimate is None:
                return None
            fits = judged.verdict.answer is FITS
            if size > 1:  # One rank shards nothing: its peak says nothing of the others.
                known.append(_Tried(size, judged.estimate.device_peak_bytes))
            low, high = (low, at) if fits else (at, high)
            if not fits and self._is_hopeless(known):
                return None
        return self.sizes[high] if high < len(self.sizes) else None

    def _fits_alone(self) -> bool:
        alone = self.judged(1) if 1 in self.sizes else None
        return alone is not None and alone.verdict.answer is FITS

    def _guess(self, known: list[_Tried]) -> int:
        """Return the place of the size to try next: first the launch's own, then where the peaks lead."""
        if not known:
            wanted = float(max(self.plan.world_size, 2))
        elif len(known) == 1:
            wanted = known[0].num_ranks * known[0].peak_bytes / self._capacity(known[0])
        else:
            kept, sharded = _kept_and_sharded(known[-2], known[-1])
            room = self._capacity(known[-1]) - kept
            wanted = sharded / room if room > 0 else float(self.sizes[-1])
        return next((i for i, size in enumerate(self.sizes) if size >= wanted), len(self.sizes))

    def _capacity(self, tried: _Tried) -> int:
        judged = self._judged[tried.num_ranks]
        assert judged is not None and judged.device is not None
        return judged.device.capacity_bytes

    def _is_hopeless(self, known: list[_Tried]) -> bool:
        """Tell whether what no number of ranks shards is too much already; it is not where the last try has room."""
        if len(known) < 2 or known[-1].peak_bytes <= self._capacity(known[-1]):
            return False
        kept, _ = _kept_and_sharded(known[-2], known[-1])
        return known[-1].num_ranks > known[-2].num_ranks and kept > self._capacity(known[-1])


def _kept_and_sharded(one: _Tried, other: _Tried) -> tuple[float, float]:
    """Return the bytes that every rank keeps and those that are sharded over all, from two peaks."""
    shares = 1 / one.num_ranks - 1 / other.num_ranks
    sharded = (one.peak_bytes - other.peak_bytes) / shares
    return one.peak_bytes - sharded / one.num_ranks, sharded


def _larger_device(
    own: Judged, device: DeviceSpec, prices: Mapping[str, Price], margin_share: float
) -> DeviceAdvice | None:
    """Return the cheapest device on which the launch's method fits with as many ranks, in every reading of it.

    What a rank holds is the same on every card with a CUDA context, so it is judged anew and not estimated.
    """
    estimate = own.estimate if own.readings is None else own.readings.most.estimate
    assert estimate is not None
    peak = estimate.device_peak_bytes

    def order(entry: GpuEntry) -> tuple[float, int]:
        price = prices.get(entry.key)
        return (float("inf") if price is None else price.usd_per_hour, entry.capacity_bytes or 0)

    needs_bf16 = own.plan.mixed_precision == "bf16"
    for entry in sorted(gpu_table(), key=order):
        capacity = entry.capacity_bytes
        if capacity is None or capacity < max(peak, device.capacity_bytes + 1):
            continue
        if entry.vendor != (device.vendor or entry.vendor) or (needs_bf16 and not entry.bf16):
            continue
        if entry.key.startswith("mig-"):
            continue
        larger = device_of(entry, capacity, "the GPU table")
        if judge(estimate, larger, (), margin_share).answer is FITS:
            price = prices.get(entry.key)
            num_ranks = own.plan.world_size
            return DeviceAdvice(
                entry.key,
                entry.name,
                capacity,
                peak,
                num_ranks,
                None if price is None else price.usd_per_hour * num_ranks,
            )
    return None
