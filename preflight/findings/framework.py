"""PF14x: the config file of a training framework, such as axolotl, LLaMA-Factory or torchtune."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

_TUNE = "tests/launchers/test_torchtune.py::"
_READ = (
    "tests/launchers/test_manifests.py::test_a_launch_is_read_as_its_manifest_says",
    "tests/launchers/test_axolotl.py::test_what_axolotl_refuses_is_refused_and_nothing_else",
    "tests/launchers/test_llamafactory.py::test_what_the_parser_refuses_is_refused_and_nothing_else",
)

KINDS: dict[str, FindingKind] = {
    "PF140": FindingKind(
        name="framework-key-unread",
        severity="warning",
        proof_kind="silent",
        trigger="a key in a framework's config that its schema does not know, or one that a missing plugin or another key takes the effect of",
        effect="the framework drops it without a word and trains with the default",
        fix="the spelling that the framework knows; preflight names the nearest one",
        proof=(*_READ, f"{_TUNE}test_a_misspelt_key_is_named_with_its_line_and_the_nearest_one"),
    ),
    "PF141": FindingKind(
        name="framework-refuses",
        severity="error",
        proof_kind="refusal",
        trigger="a value, a missing key or two keys together that the framework's own checks stop at",
        effect="the framework stops while it reads its config, on every rank, after the job has waited for its GPUs",
        fix="as the finding says",
        proof=(*_READ, f"{_TUNE}test_what_the_recipe_refuses_is_refused_with_a_place_and_a_fix"),
    ),
    "PF142": FindingKind(
        name="placeholder",
        severity="warning",
        proof_kind="reading",
        trigger="`${NAME}` or `{{ name }}` stands where a framework's config has a value, or a function makes it in a way that is not followed",
        effect="another program fills it in before training, or Python does; until then the plan field is unknown, and the verdict may be",
        fix="--set FIELD=VALUE, or check the file that was filled in",
        proof=(_READ[0], f"{_TUNE}test_a_config_is_read_as_its_recipe_takes_it"),
    ),
    "PF143": FindingKind(
        name="estimated-otherwise",
        severity="warning",
        proof_kind="reading",
        trigger="a framework's key changes what a rank holds in a way that no formula knows",
        effect="the estimate is for what the finding names instead",
        fix="read the verdict with that in mind; `preflight trace` or a short run tells more",
        proof=(_READ[0], f"{_TUNE}test_a_config_is_read_as_its_recipe_takes_it"),
    ),
    "PF144": FindingKind(
        name="old-framework-spelling",
        severity="info",
        proof_kind="reading",
        trigger="a value that a framework still takes and translates into a newer key",
        effect="none yet: it is read as the framework translates it",
        fix="the newer keys",
        proof=_READ[:1],
    ),
    "PF145": FindingKind(
        name="config-by-its-name",
        severity="warning",
        proof_kind="reading",
        trigger="a config of LLaMA-Factory or axolotl that names one of the DeepSpeed files of their repositories, where that file is not",
        effect="the file is taken for the framework's own, and nothing is refused for it: it may have been changed",
        fix="run preflight where the launch starts",
        proof=(
            "tests/launchers/test_shipped_deepspeed.py::test_a_file_of_the_frameworks_own_is_known_by_its_name",
        ),
    ),
}
