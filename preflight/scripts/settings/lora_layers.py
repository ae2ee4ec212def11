"""LoRA of DeepSpeed-Chat's: layers of its own in place of linear ones, of which many repositories have a copy.

`convert_linear_layer_to_lora(model, "decoder.layers.", rank)` gives two matrices, in the dtype of the weight, to each
linear layer with those words in its name, and freezes that weight; `only_optimize_lora_parameters(model)` freezes
everything else (dschat/utils/module/lora.py of DeepSpeedExamples). What is kept for the backward is what PEFT keeps:
the input, and its product with the first matrix. Without the second call the embedding, the head, norms and biases
train too, which is bounded by copies of the first two as PEFT makes them (`modules_to_save`).
"""

from __future__ import annotations

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.script_settings import ScriptSettings

MAKES = "convert_linear_layer_to_lora"
ARGUMENTS = ("model", "part_module_name", "lora_dim", "lora_scaling", "lora_droppout")
FREEZES = "only_optimize_lora_parameters"
_WHOLE_LAYERS = lazy_pattern(r"^(?:\w+\.)*(?:layers|layer|h|blocks|block)\.?$")
"""Words that the name of every linear layer of a decoder has, and the head's has not."""


def read_lora_layers(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Record the adapter that a script surely makes so, where its rank is known."""
    made = reader.named(MAKES)
    if len(made) != 1 or reader.maybe(MAKES):
        return
    (call,) = made
    given = (reader.evaluator.evaluate(each, call.scope) for each in call.node.args)
    values = {**dict(zip(ARGUMENTS, given, strict=False)), **reader.keywords(call)[0]}
    name, rank = (getattr(values.get(each), "value", None) for each in ARGUMENTS[1:3])
    is_whole = isinstance(name, str) and _WHOLE_LAYERS.match(name) is not None
    if not is_whole or not isinstance(rank, int) or rank < 1:
        return
    place = reader.place(call)
    settings.put("use_peft", Known(True, place))
    settings.put("lora_r", values["lora_dim"])
    settings.put("lora_dropout", values.get("lora_droppout", Known(0.0, place)))
    settings.put("lora_target_modules", Known("all-linear", place))
    freezing = reader.named(FREEZES)
    is_alone = any(len(each.node.args) == 1 and not each.node.keywords for each in freezing)
    if not is_alone:
        settings.put("lora_modules_to_save", Known(UNKNOWN, place))
