"""Every model of the registry is judged: an answer where there is a formula, `unknown` with a bound where there is none."""

from __future__ import annotations

import pytest

from preflight.formulas.layers.installed_kernels import KERNELS
from preflight.formulas.limits.untraced import UNTRACED
from preflight.judge import judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.models.families.library_defaults import family_table
from preflight.models.registry import all_models
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.verdict import Answer

PLUGINS = load_plugins()
METHODS = {
    "full": {},
    "LoRA": {"adapter": Adapter(targets="all-linear")},
    "QLoRA under FSDP2": {
        "adapter": Adapter(rank=16),
        "base_quantization": BaseQuantization(storage_dtype="bf16"),
        "engine": "fsdp2",
        "world_size": 8,
        "shard_degree": 8,
    },
}
HEADS = {
    "ForMaskedLM": "masked_lm", "ForSequenceClassification": "sequence_classification", "Model": "embedding",
}  # fmt: skip
CARD = "b200-sxm-180"


@pytest.mark.parametrize("entry", list(all_models()), ids=lambda entry: entry.id)
def test_a_model_has_an_answer_or_is_unknown_for_a_reason(entry):
    is_encoder = "heads" in (family_table(str(entry.config.get("model_type"))) or {})
    named = str((entry.config.get("architectures") or [""])[0])
    head = next((head for end, head in HEADS.items() if named.endswith(end)), None)
    for method, values in METHODS.items():
        plan = LaunchPlan(
            model=entry.id,
            micro_batch_size=1,
            seq_len=256,
            target_len=64,
            mixed_precision="bf16",
            device=CARD,
            trainer="transformers",
            objective=head if is_encoder else None,
            **values,
        )
        judged = judge_plan(plan, PLUGINS, Policy())
        model, answer = judged.model, judged.verdict.answer

        assert judged.estimate is not None, method
        assert model.num_params == entry.num_params
        if model.is_decoder_lm:
            settled = judged.readings is None or judged.readings.answer is not None
            if judged.verdict.unpriced:  # PF129: a way to train that its table's traces do not have
                assert answer is Answer.UNKNOWN or answer is Answer.DOES_NOT_FIT
                assert set(judged.verdict.unpriced) <= {UNTRACED, KERNELS}
            else:
                assert (answer is not Answer.UNKNOWN) is settled, (method, judged.verdict)
        else:
            assert answer in (Answer.UNKNOWN, Answer.DOES_NOT_FIT), method
            assert any("activation formula" in name for name in judged.verdict.missing), method
        if method == "full":
            assert judged.estimate.peak.allocated_bytes >= 2 * 2 * entry.num_params
