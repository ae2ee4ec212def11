"""What axolotl's `rl`, `reward_model` and `process_reward_model` train for, and what it is compared with.

Its trainers derive from TRL's, and change tokens and optimizers alone: core/builders/rl.py, core/trainers/trl.py,
core/trainers/dpo, and setup_reference_model in train.py, of axolotl 0.18.0.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.formulas.objective import COMPARED, OF_AXOLOTL
from preflight.formulas.objectives.strided_blocks import EBFT_DEFAULTS
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.plan_choices import OBJECTIVES
from preflight.setting import Setting
from preflight.unpriced_names import STRIDED

REWARDS = {"reward_model": "reward", "process_reward_model": "prm"}
OTHER_LOSSES = ("dpo_use_liger_kernel", "dpo_use_weighting", "dpo_norm_loss", "rpo_alpha")
"""Keys under which TRL's DPO takes its log-probabilities in ways that are not counted."""
MIXED_LOSSES = frozenset({"sft", "aot", "aot_unpaired"})
UNPRICED = "a reference model, pairs or generation"
CUTS_ROWS = frozenset({"ebft_reasoning", "ebft_strided_chat", "ebft_strided_structured"})
"""Modules of axolotl's own that cut rows at `sequence_len` and pad them to it (prompt_strategies/ebft, 0.18.0)."""


def read_objective(keys: FrameworkKeys) -> None:
    """Put the objective and the reference model; say what of them no formula counts."""
    setting, objective = keys.get("rl"), ""
    if setting is not None:
        objective = str(setting.value)
    for name, rewarded in REWARDS.items():
        given = keys.get(name)
        if given is not None and given.value is True:
            setting, objective = given, rewarded
    if setting is None:
        return
    if objective in OBJECTIVES:
        keys.put("objective", objective, setting)
    if objective == "ebft" and _reads_blocks(keys):
        message = "blocks that EBFT samples along a row are bounded, and counted in no finer way"
        keys.leave_out(NotModelled(message, STRIDED, "either"), setting)
        return
    if objective in OF_AXOLOTL:
        keys.libraries.append("trl")
    computed = keys.get("precompute_ref_log_probs")
    is_computed = computed is not None and computed.value is True
    if computed is not None and is_computed:
        keys.put("reference_model", "none", computed)
    elif objective in COMPARED and "adapter" not in keys.settings:
        keys.put("reference_model", "same", setting)  # loaded again, as the policy is
    for message, at in _left_out(keys, objective, setting, is_computed):
        keys.leave_out(NotModelled(message, UNPRICED, "either"), at)


def _reads_blocks(keys: FrameworkKeys) -> bool:
    """Tell whether EBFT is strided, with rows as long as `sequence_len`, and hand its numbers on."""
    section = keys.get("ebft")
    said = section.value if section is not None and isinstance(section.value, Mapping) else {}
    if said.get("mode") != "strided" or not _cuts_rows(keys):
        return False
    for name in EBFT_DEFAULTS:
        given = said.get(name)
        if given is not None and (not isinstance(given, int) or given < 1):
            return False
        if given is not None:
            keys.argument(f"ebft_{name}", given, section)
    layers = said.get("feature_layers")
    if isinstance(layers, list):
        keys.argument("ebft_feature_layers", layers, section)
    return True


def _cuts_rows(keys: FrameworkKeys) -> bool:
    """Tell whether all data pass through modules of axolotl's own that cut rows; one of that name in the folder comes first."""
    datasets = [*(keys.value("datasets") or ()), *(keys.value("test_datasets") or ())]
    types = [str(each.get("type")) if isinstance(each, Mapping) else "" for each in datasets]
    modules = {each.partition(".")[0] for each in types}
    folder = keys.library.folder
    is_own = not any(os.path.exists(os.path.join(folder, f"{name}.py")) for name in modules)
    return bool(modules) and modules <= CUTS_ROWS and is_own


def _left_out(
    keys: FrameworkKeys, objective: str, setting: Setting, is_computed: bool
) -> Iterator[tuple[str, Setting]]:
    """Yield what no formula counts, and the key that asks for it."""
    if objective not in OF_AXOLOTL:
        yield (
            f"rl: {objective} is estimated in part: log-probabilities, generation and rewards are not counted",
            setting,
        )
        return
    again = keys.get("rl_adapter_ref_model")
    if again is not None and again.value and "adapter" in keys.settings:
        yield "a reference model beside an adapter is not counted", again
    if is_computed and objective in COMPARED and "adapter" not in keys.settings:
        yield "a reference model that is kept beside its log-probabilities is not counted", setting
    named = keys.get("trainer_cls")
    if named is not None:
        yield f"{named.value} is a trainer of the launch's own, and is estimated as TRL's", named
    for name in OTHER_LOSSES:
        given = keys.get(name)
        if given is not None and given.value not in (False, 0):
            yield f"log-probabilities are estimated without {name}", given
    losses = keys.get("dpo_loss_type")
    given_losses = losses.value if losses is not None else ()
    if losses is not None and MIXED_LOSSES & set(
        given_losses if isinstance(given_losses, list) else [str(given_losses)]
    ):
        yield "log-probabilities are estimated without the losses that are mixed in", losses
    loss = keys.settings.get("loss")
    if loss is not None and loss.value != "full_logits":
        yield (
            f"TRL's {objective} takes its loss of whole logits, and is not estimated beside a fused one",
            setting,
        )
