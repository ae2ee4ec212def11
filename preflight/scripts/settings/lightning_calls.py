"""What Lightning's Trainer says: its precision, its gradients, and the ranks that it starts of its own accord, as many as it
is told, and all GPUs of the node where not.

Source: Trainer.__init__ and _AcceleratorConnector of lightning 2.0 to 2.6 (pytorch/trainer/connectors/
accelerator_connector.py): `devices="auto"`, `num_nodes=1`, and `gpus` before 2.0; more than one makes DDP of
`strategy="auto"`. Fabric takes the same arguments.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import parts_of
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import UNKNOWN, Known
from preflight.scripts.settings.by_call import is_quantized
from preflight.scripts.settings.script_settings import OwnEngine, Said, ScriptSettings, said_of

FROM_ARGUMENTS = "from_argparse_args"
"""Method of Lightning's Trainer before 2.0 that takes its arguments from a parser's: what its own keywords do not say
(pytorch_lightning/utilities/argparse.py, 1.9.5)."""
STARTERS = ("Trainer", "Fabric", FROM_ARGUMENTS)
MODULES = ("lightning", "pytorch_lightning")


PRECISIONS: Mapping[str, tuple[str, str | None]] = {
    "16": ("fp16", None),
    "16-mixed": ("fp16", None),
    "bf16": ("bf16", None),
    "bf16-mixed": ("bf16", None),
    "16-true": ("no", "float16"),
    "bf16-true": ("no", "bfloat16"),
    "32": ("no", None),
    "32-true": ("no", None),
}
"""`precision` -> mixed precision, and the dtype that the whole module is cast to (HalfPrecision.convert_module,
lightning/fabric/plugins/precision/half.py; the short spellings in precision.py, 2.6)."""
OF_TRAINER = {
    "accumulate_grad_batches": "gradient_accumulation_steps",
    "gradient_clip_val": "max_grad_norm",
}


OF_FLAGS = ("accelerator", "devices", "gpus", "num_nodes", "precision", "strategy", *OF_TRAINER)


def arguments_of(reader: ScriptReader, call: CallFound) -> tuple[dict[str, Known], bool]:
    """Return what Lightning's trainer is told, by flags where it takes them, and whether something else may be."""
    values, is_open = reader.keywords(call)
    if call.name == FROM_ARGUMENTS:
        for name in OF_FLAGS:
            flag = reader.flag_of([name])
            if flag is not None:
                text = str(flag.value)
                value = int(text) if text.isdecimal() else text
                values.setdefault(name, Known(value, reader.place(call), name))
    return values, is_open


def read_lightning(reader: ScriptReader, settings: ScriptSettings) -> None:
    """Read the precision and the gradients of Lightning's trainer; those of plugins, which may be any, are left open."""
    call = lightning_trainer(reader)
    if call is None:
        return
    values, is_open = arguments_of(reader, call)
    place = reader.place(call)
    for keyword, name in OF_TRAINER.items():
        if keyword in values and values[keyword].value is not None:
            settings.put(name, values[keyword])
    said = values.get("precision", Known("32-true", place))
    read = PRECISIONS.get("32-true" if said.value is None else str(said.value))
    if is_open or "plugins" in values or read is None or call not in reader.calls:
        settings.put("mixed_precision", Known(UNKNOWN, said.place))
        settings.put("dtype", Known(UNKNOWN, said.place))
        return
    mixed, dtype = read
    settings.put("mixed_precision", Known(mixed, said.place))
    if dtype is not None and is_quantized(settings) is False:
        settings.put("dtype", Known(dtype, said.place))


def lightning_trainer(reader: ScriptReader) -> CallFound | None:
    """Return the call that makes Lightning's Trainer, or its Fabric; None where a script has none, or it trains on a CPU."""
    for call in reader.possible(*STARTERS):
        if _is_lightnings(reader, call):
            values, _ = arguments_of(reader, call)
            on_cpu = "accelerator" in values and values["accelerator"].value == "cpu"
            return None if on_cpu else call
    return None


def with_trainer(reader: ScriptReader, call: CallFound, engine: OwnEngine) -> OwnEngine:
    """Return what a script sets up, with the ranks of Lightning's trainer, and DDP where that is its strategy."""
    ranks = _ranks(reader, call)
    if ranks is not None and ranks.value == 1:
        return engine
    place = reader.place(call)
    strategy = arguments_of(reader, call)[0].get("strategy")
    said = "auto" if strategy is None else strategy.value
    if not engine.engines and isinstance(said, str) and (said == "auto" or said.startswith("ddp")):
        engine = replace(engine, engines=("ddp",), is_sure=call in reader.calls, place=place)
    return replace(engine, spawns=place, num_ranks=ranks)


def _ranks(reader: ScriptReader, call: CallFound) -> Said | None:
    """Return how many ranks it starts; None where it takes all GPUs that there are, or only running tells."""
    values, is_open = arguments_of(reader, call)
    devices = values.get("devices") or values.get("gpus")
    nodes = values.get("num_nodes")
    count, num_nodes = _count(devices), 1 if nodes is None else _count(nodes)
    said = None if devices is None else said_of(devices)
    if is_open or said is None or not count or not num_nodes:
        return None
    return Said(count * num_nodes, said.place)


def _count(known: Known | None) -> int:
    """Return a number of devices, given as one or as a list of them; 0 of `auto`, -1 and what is not known."""
    value = None if known is None else known.value
    if isinstance(value, (list, tuple)):
        return len(value)
    text = str(value)
    return int(text) if not isinstance(value, bool) and text.isdecimal() else 0


def _is_lightnings(reader: ScriptReader, call: CallFound) -> bool:
    root = parts_of(call.node.func)[0]
    imported: Mapping[str, str] = reader.libraries.get(call.scope.path, {})
    name = imported.get(root.id, "") if isinstance(root, ast.Name) else ""
    return name.partition(".")[0] in MODULES
