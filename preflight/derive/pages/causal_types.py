"""Which causal types of transformers have a formula: counts and lists of docs/formulas.md, from the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.derive.target import Files, Say, put_between, read
from preflight.formulas.cost_tables import CHECKPOINTED, family_costs
from preflight.model import CAUSAL_LM, MASKED_LM
from preflight.models.families.wholes import whole_of
from preflight.trace.encoders import encoder_class

PAGE = "docs/formulas.md"
BEGIN, END = "<!-- causal types -->", "<!-- end of causal types -->"
WAYS = ("full", "LoRA")
"""What is asked of a type that is priced for more than some ways of training: 16-bit weights, with an adapter or not."""


def types_by_formula() -> Mapping[str, Sequence[str]]:
    """Return the causal types by what is known of them: `own`, `some` ways of training, `whole`, `none`."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found: dict[str, list[str]] = {"own": [], "some": [], "whole": [], "none": []}
    for name in sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        found[_group(name)].append(name)
    return found


def _group(name: str) -> str:
    whole, costs = whole_of(name), family_costs(name)
    if whole is not None:
        return "whole" if family_costs(whole.text_type) is not None else "none"
    if encoder_class(name, MASKED_LM) is not None:
        costs = family_costs(name, CAUSAL_LM)
    if costs is None:
        return "none"
    return "own" if _has_all(costs["shared"]) else "some"


def _has_all(methods: Mapping[str, object]) -> bool:
    """Tell whether the usual ways are there, and checkpointed where the class can be checkpointed at all."""
    can = any(method.endswith(CHECKPOINTED) for method in methods)
    return all(way in methods and (not can or way + CHECKPOINTED in methods) for way in WAYS)


def lines() -> list[str]:
    """Return the section in Markdown."""
    import transformers

    by = types_by_formula()
    release = transformers.__version__.rpartition(".")[0]
    priced = sum(len(by[group]) for group in ("own", "some", "whole"))
    every = sum(len(names) for names in by.values())
    return [
        f"- {priced} of the {every} causal types of transformers {release} have a formula: {len(by['own'])} of their own for"
        f" full training and LoRA, {len(by['some'])} for some ways of training alone ({_said(by['some'])}), and"
        f" {len(by['whole'])} through the decoder that they are put around ({_said(by['whole'])}).",
        f"- {len(by['none'])} have none: {_said(by['none'])}.",
    ]


def _said(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def files(say: Say) -> Files:
    """Yield the page with its counts and lists."""
    yield PAGE, put_between(read(PAGE), BEGIN, END, lines())
