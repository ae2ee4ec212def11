"""deepspeed_buckets: smaller buckets for DeepSpeed's collectives.

Saves      some bytes for each element taken from the reduce bucket: two 16-bit copies with overlap_comm, and what
           is flattened for the reduction; 1 to 4 GB from DeepSpeed's default of 500 million
Costs      more and smaller collectives: little over NVLink
Safety     equivalent: the same sums; how the ranks' numbers are added depends on where a bucket is cut
Written as zero_optimization.reduce_bucket_size, allgather_bucket_size and stage3_prefetch_bucket_size in the
           DeepSpeed JSON; the launcher's own keys have none of them
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.deepspeed_rules import bucket_elements, settings_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.remedy import Remedy

SMALLER = (200_000_000, 50_000_000)
"""Elements: DeepSpeed's tutorials go down to 50 million; below that collectives are short on every link."""


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Cut buckets to 200, then to 50 million elements."""
    if not plan.zero_stage:
        return
    settings = settings_of(plan)
    for size in SMALLER:
        edits = {}
        if bucket_elements(plan, model) > size:
            edits["deepspeed.reduce_bucket_size"] = size
        if plan.zero_stage < 3 and settings.allgather_bucket_size > size:
            edits["deepspeed.allgather_bucket_size"] = size
        if edits:
            yield Remedy(
                "deepspeed_buckets",
                f"buckets of {size // 1_000_000} million elements",
                edits,
                "equivalent",
                how=", ".join(f"zero_optimization.{key[10:]}: {size}" for key in edits),
            )
