"""What changed in which release of PEFT."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "peft")

PREPARING = ("prepare_model_for_kbit_training", "prepare_model_for_int8_training")
"""Functions that make a loaded model ready for an adapter: frozen, fp32 where it is not packed, checkpointed if it is
packed and nobody says otherwise, and with inputs that ask for gradients (peft/utils/other.py, 0.3 to 0.21; the second
name is gone in 0.10)."""

CONVERTS_EXPERT_NAMES = _since(
    "0.19",
    "names of an expert's linear layers are turned into those of the fused parameters",
    "utils/transformers_weight_conversion.py",
    "0.21.2",
)
CONVERTS_STRING_TARGETS = _since(
    "0.20",
    "`all-linear`, or a regex, is resolved before names of experts are turned; 0.19 takes it for a set of letters and"
    " finds no module",
    "utils/transformers_weight_conversion.py _resolve_string_target_modules: 0.20.0 and 0.21.0 have it, 0.19.1 has"
    " `set(peft_config.target_modules)`; run on 0.19.1 with transformers 5.11.0",
    "0.21.2",
)
FOLDS_DELTAS = _since(
    "0.21",
    "an adapter on a parameter is folded into it in one product; before, its delta is made whole beside it and kept"
    " while the module runs",
    "tuners/lora/layer.py ParamWrapper._activate_lora: 0.20.0 has `get_delta_weight` alone, 0.21.0 `_LoraFactorsProxy`;"
    " traces of 0.19.1 and 0.20.0",
    "0.21.2",
)
SAVES_BY_MODULE_NAMES = _since(
    "0.21",
    "an adapter's tensors are saved by the names of their modules too; before, by those of the tensors alone",
    "an adapter under FSDP1 saved empty by 0.21, whole by 0.20",
    "0.21.2",
)
