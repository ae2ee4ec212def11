"""A plan refuses values of another kind, wherever they come from, and takes every plan that was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from preflight.errors import BadInput
from preflight.plan_dict import plan_from_dict

MEASURED = Path(__file__).parent / "measured" / "runs-dev.yaml"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"optimizer": 5}, "optimizer must be text, not 5"),
        ({"max_grad_norm": float("nan")}, "max_grad_norm must be a number, not nan"),
        ({"adapter": {"rank": "16"}}, "adapter.rank must be a whole number"),
        ({"adapter": {"targets": 5}}, "adapter.targets must be a list of names or text, not 5"),
        ({"base_quantization": {"compute_dtype": "none"}}, "base_quantization.compute_dtype must"),
        ({"deepspeed": {"sub_group_size": 1e400}}, "deepspeed.sub_group_size must be a whole"),
        ({"versions": {"trl": 1}}, "versions must be a mapping of text"),
        ({"model_config": [1]}, "model_config must be a mapping"),
        ({"seq_len": 10**30}, "seq_len cannot be more than"),
        ({"torch_compile": None, "wrap_classes": "Layer"}, "wrap_classes must be a list of names"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(values, said):
    with pytest.raises(BadInput) as refused:
        plan_from_dict(values)

    assert [problem.message.startswith(said) for problem in refused.value.problems] == [True]


def test_every_measured_plan_is_of_the_right_kinds():
    for run in yaml.safe_load(MEASURED.read_text())["runs"]:
        assert plan_from_dict(run["plan"]).problems() == ()
