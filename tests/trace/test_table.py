"""Formulas against traces: the table's families in sizes that their coefficients were not solved from."""

from __future__ import annotations

import json

import pytest

from preflight.derive.costs.costs import derive, rendered
from preflight.derive.costs.formula_table import BEGIN, END, compare, table_lines
from preflight.derive.target import put_between
from preflight.formulas.cost_tables import CHECKPOINTED, family_costs, in_words

FAMILIES = (
    "llama", "qwen3", "gemma2", "cohere", "gpt_neox", "falcon", "opt", "qwen2_moe", "gpt_oss",
    "deepseek_v3",
)  # fmt: skip
PLAIN = {"llama", "qwen3", "cohere", "gpt_neox", "falcon", "opt", "qwen2_moe"}


def forms_of(costs, methods):
    """Return a file's forms of some methods, with names."""
    keys = [name + end for name in methods for end in ("", CHECKPOINTED)]
    found = []
    for of_method in (*costs["kinds"].values(), costs["shared"]):
        for key in keys:
            forms = of_method[key]
            while isinstance(forms, str):  # the same as another method's
                forms = of_method[forms]
            found.append(in_words(forms, costs["names"]))
    return found


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_formulas_are_the_trace_at_every_moment(plugins, model_type, checkpointing):
    """Full training in bf16: 0.1 % for plain decoder layers, 3 % for the rest."""
    tolerance = 0.001 if model_type in PLAIN else 0.03
    for compared in compare(model_type, "full", checkpointing, plugins):
        assert abs(compared.error) <= tolerance, compared


@pytest.mark.parametrize("method", ["LoRA", "LoRA, fp32 adapters"])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("model_type", ["llama", "gemma2", "falcon"])
def test_formulas_are_the_trace_of_adapters(plugins, model_type, checkpointing, method):
    for compared in compare(model_type, method, checkpointing, plugins):
        assert abs(compared.error) <= 0.001, compared


def test_the_coefficients_are_those_of_the_installed_transformers():
    """One method with plain weights and one with packed ones, which the whole file is made like."""
    methods = ("full", "QLoRA, autocast")
    again = forms_of(json.loads(rendered(derive("llama", methods))), methods)

    assert again == forms_of(family_costs("llama"), methods)


def test_the_table_is_put_between_its_marks(plugins):
    lines = table_lines(compare("llama", "full", False, plugins), {})
    text = put_between(f"before\n{BEGIN}\nold\n{END}\nafter\n", BEGIN, END, lines)

    assert text.startswith(f"before\n{BEGIN}\n\n| % off |")
    assert text.endswith(f"\n{END}\nafter\n")
    assert "old" not in text
