"""What a recipe of torchtune's holds beside the model that trains: a teacher, models of PPO, copies of QAT."""

from __future__ import annotations

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.torchtune.config import COMPONENT
from preflight.launchers.torchtune.model import Builder
from preflight.launchers.torchtune.table import builders
from preflight.setting import Setting
from preflight.unpriced_names import FAKE_QUANTIZED, TEACHER

PPO = "ppo_"
TEACHES = "knowledge_distillation_"
"""Start of the recipes that hold a teacher beside the student (0.4.0 to 0.6.1)."""
QAT = "qat_"
"""Start of the recipes of QAT: distributed, on a single device (0.7.0), with an adapter."""
COUNTED_QUANTIZERS = frozenset(
    f"{scheme}QATQuantizer{kind}"
    for scheme in ("Int8DynActInt4Weight", "Int4WeightOnly")
    for kind in ("", "ModuleSwap")
)
"""Of torchtune/training/quantization.py, 0.2 to 0.7: those of torchao that tests/formulas/fake_quantized.jsonl counts."""


def read_beside(keys: FrameworkKeys, recipe: str, builder: Builder, section: str) -> None:
    """Put the teacher of a recipe that has one, and say what of the others is not in the estimate."""
    if recipe.startswith(PPO) and "model" in keys.settings:
        message = "PPO holds a policy, its reference, a value and a reward model: the estimate has the policy alone"
        keys.leave_out(NotModelled(message, "another model", "more"), keys.given[section])
    if recipe.startswith(TEACHES) and "model" in keys.settings:
        _teacher(keys, builder)
    if recipe.startswith(QAT) and "quantizer" in keys.given:
        quantizer = str(keys.value(f"quantizer.{COMPONENT}"))
        is_counted = quantizer.rsplit(".", 1)[-1] in COUNTED_QUANTIZERS
        name = FAKE_QUANTIZED if is_counted else f"copies that {quantizer} makes"
        message = "the fake-quantized copies of QAT are not in the estimate"
        keys.leave_out(NotModelled(message, name, "more"), keys.given["quantizer"])


def _teacher(keys: FrameworkKeys, builder: Builder) -> None:
    """Put the teacher's name, and say that it is not in the estimate of the student."""
    place = keys.library.default_place
    keys.put("objective", "distillation", Setting("distillation", place))
    loss = keys.get(f"kd_loss.{COMPONENT}")
    if loss is not None:
        keys.argument("kd_loss", str(loss.value).rsplit(".", 1)[-1], loss)
    component = keys.get(f"teacher_model.{COMPONENT}")
    if component is not None:
        name = str(component.value)
        entry = builder(name) or {}
        is_whole = not name.rsplit(".", 1)[-1].startswith(("lora_", "qlora_"))
        # a builder without sizes would be known by the student's checkpoint
        is_known = name in builders() or entry.get("sizes")
        if is_whole and is_known and entry.get("model"):
            keys.put("reference_model", entry["model"], component)
    message = "the teacher is held beside the student: it is estimated at its most, and where its shapes are known"
    keys.leave_out(NotModelled(message, TEACHER, "more"), component or keys.given["model"])
