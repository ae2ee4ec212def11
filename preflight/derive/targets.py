"""Everything that is derived, in the order in which it is made: tables before the pages that show them."""

from __future__ import annotations

from preflight.derive import (
    costs,
    finding_reference,
    formula_table,
    framework_tables,
    hook_reference,
    library_defaults,
    litgpt_tables,
    loop_table,
    man_page,
    plan_reference,
    torchtitan_tables,
    torchtune_tables,
    towers,
    trainer_tables,
    trl_profiles,
)
from preflight.derive.target import Target
from preflight.plan_choices import HF_TRAINERS

TABLES, PAGES = "tables", "pages"
GROUPS = {
    TABLES: "what preflight knows of a library, made from the installed one",
    PAGES: "what a reader looks up, made from the code and the tables",
}

TARGETS = (
    Target(
        "library_defaults",
        TABLES,
        "config defaults, spellings and layer classes of every family",
        library_defaults.PATH,
        library_defaults.files,
        ("transformers", "torch"),
    ),
    Target(
        "trainer_tables",
        TABLES,
        "arguments of Trainer and of TRL's own scripts",
        trainer_tables.PATH,
        trainer_tables.files,
        HF_TRAINERS,
    ),
    Target(
        "trl_profiles",
        TABLES,
        "TRL's own accelerate configs",
        trl_profiles.PATH,
        trl_profiles.files,
        ("trl",),
    ),
    Target(
        "axolotl",
        TABLES,
        "keys of axolotl's config and command",
        framework_tables.AXOLOTL_PATH,
        framework_tables.axolotl_files,
        ("axolotl",),
    ),
    Target(
        "llamafactory",
        TABLES,
        "arguments of LLaMA-Factory's parser",
        framework_tables.LLAMAFACTORY_PATH,
        framework_tables.llamafactory_files,
        ("llamafactory", "transformers"),
    ),
    Target(
        "torchtitan",
        TABLES,
        "keys, defaults and models of one torchtitan, beside those of the older ones",
        torchtitan_tables.PATH,
        torchtitan_tables.files,
        ("torchtitan", "torch"),
    ),
    Target(
        "torchtune",
        TABLES,
        "recipes, configs and model builders of one torchtune",
        torchtune_tables.PATH,
        torchtune_tables.files,
        ("torchtune",),
    ),
    Target(
        "litgpt",
        TABLES,
        "options of litgpt's training commands, and the models that it names",
        litgpt_tables.PATH,
        litgpt_tables.files,
        ("litgpt", "jsonargparse"),
    ),
    Target(
        "costs",
        TABLES,
        "what a layer of every family keeps and makes, from traces",
        "preflight/formulas/costs/*.json",
        costs.files,
        ("transformers", "peft", "bitsandbytes", "torch"),
        "hours",
    ),
    Target(
        "towers",
        TABLES,
        "what a vision tower's blocks keep and make",
        "preflight/formulas/costs/towers/*.json",
        towers.files,
        ("transformers", "torch", "peft"),
        "half an hour",
    ),
    Target(
        "findings",
        PAGES,
        "everything that a check can say beside memory",
        "docs/findings.md",
        finding_reference.files,
    ),
    Target("hooks", PAGES, "the hooks of a plugin", "hooks/README.md", hook_reference.files),
    Target(
        "plan",
        PAGES,
        "every field of a plan, and its JSON Schema",
        "docs/reference-plan.md, docs/schema/plan.json",
        plan_reference.files,
    ),
    Target("man", PAGES, "the manual page", "docs/preflight.1", man_page.files),
    Target(
        "formulas",
        PAGES,
        "formulas beside traces, family by family",
        formula_table.PAGE,
        formula_table.files,
        ("transformers", "peft", "bitsandbytes", "torch"),
        "an hour",
    ),
    Target(
        "user_loop",
        PAGES,
        "what the training loop itself decides, by formula and by trace",
        loop_table.PAGE,
        loop_table.files,
        ("transformers", "torch"),
        "a minute",
    ),
)
