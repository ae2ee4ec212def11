"""An estimate is worked out once in a launch for plans that only who said their values tells apart."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from counting_plugin import Counting

from preflight.formats.load import load_yaml
from preflight.judge import TAKEN_BY_VALUES, estimate_memory
from preflight.launch import LaunchPlan, Origin, VersionReading
from preflight.plugins import load_plugins
from preflight.studies.measured import read_runs

MEASURED = Path(__file__).parent / "measured"
LEFT_OUT = {field for field in LaunchPlan.__dataclass_fields__ if field not in TAKEN_BY_VALUES}
READ: set[str] = set()


class Watched(LaunchPlan):
    """A plan that notes who reads what the estimate is not told apart by."""

    def __getattribute__(self, name: str):
        if name in LEFT_OUT:
            reader = sys._getframe(1).f_code
            if not reader.co_filename.endswith("dataclasses.py"):  # which copies it
                READ.add(f"{name} in {reader.co_name}")
        return super().__getattribute__(name)


@pytest.mark.parametrize("name", ["runs-dev.yaml", "runs-dev-2.yaml"])
def test_memory_depends_on_no_origin_and_on_no_other_release(name):
    path = MEASURED / name
    plugins = load_plugins()
    asked, num_estimates = set(), 0
    for run in read_runs(load_yaml(path.read_text(), str(path))):
        plan = Watched(
            **{field: getattr(run.plan, field) for field in LaunchPlan.__dataclass_fields__}
        )
        model = plugins.first("preflight_describe_model", plan=run.plan)
        device = plugins.first("preflight_describe_device", plan=run.plan)
        if model is not None and plan.seq_len and plan.micro_batch_size:
            READ.clear()
            estimate_memory(plan, model, device, plugins)
            asked |= READ
            num_estimates += 1

    assert asked == set() and num_estimates > 20


def test_a_plan_is_estimated_anew_where_a_value_is_another_or_another_launch_is_judged():
    plugins, counting = load_plugins(), Counting()
    plugins.register(counting, "counting")
    plan = LaunchPlan(model="Qwen/Qwen2.5-0.5B", seq_len=512, micro_batch_size=1)
    model = plugins.first("preflight_describe_model", plan=plan)
    others = (VersionReading({"torch": "2.4.0"}, {}),)

    def ask(plan: LaunchPlan):
        return estimate_memory(plan, model, None, plugins)

    first = ask(plan)
    assert ask(plan.with_origin("seq_len", Origin("--max_length"))) is first
    assert ask(replace(plan, version_readings=others)) is first
    assert counting.asked == 1
    assert ask(plan.with_edits({"seq_len": 1024})) != first
    ask(plan.with_edits({"versions.torch": "2.4.0"}))
    assert counting.asked == 3
    plugins.next_answer()
    assert ask(plan) == first
    assert counting.asked == 4
