"""A config function of a torchtitan checkout, read as the table of a release has those of its own.

Source: config/manager.py:87-134, config/configs.py and trainer.py:70-116 of torchtitan's main branch, November 2026,
after 0.3.0. A batch is a number of tokens there, cut at `max_context_length`; the plan has rows of that length.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.launchers.torchtitan.config_values import TitanConfig
from preflight.launchers.torchtitan.table import MODULE_VERSION
from preflight.near_names import nearest_fix
from preflight.reading import Reading
from preflight.scripts.python.made_objects import FunctionReader, Made, is_plain
from preflight.scripts.python.nodes import keyword_of
from preflight.scripts.python.trees import read_tree
from preflight.setting import Place, Setting

FOLDERS = ("torchtitan/models", "torchtitan/experiments", "torchtitan/experiments/rl/examples")
"""Where a short name of a module is looked for, in this order."""
REGISTRY = "config_registry.py"
CLASSES = "torchtitan/config/configs.py"
SECTIONS = {
    "training": "TrainingConfig",
    "parallelism": "ParallelismConfig",
    "compile": "CompileConfig",
}
"""Section of a config -> the class that has its defaults."""
TRAINER = "torchtitan/trainer.py"
TO_GRAPHS = "to_graph_trainer_config"
"""What makes a config one of the graph trainer's."""
NOT_FOLLOWED = ("model_registry", "default_adamw", TO_GRAPHS)
"""Functions whose names say more than what they make."""
SAME_SIZES = ("attn_backend", "converters", "tp_gemm_backend")
"""Arguments of model_registry that change no weights; what converters do is said apart."""
TOKENS = "training.num_tokens_per_microbatch_per_dp_rank"
STEP_TOKENS = "training.num_tokens_per_train_step"
CONTEXT = "training.max_context_length"
STAGES = "parallelism.pipeline_parallel_degree"
IN_FLIGHT = "parallelism.num_pp_microbatches"
"""Each stage of a pipeline is sent so many times the tokens of a micro batch (trainer.py:409-416)."""


def registry_of(command: LaunchCommand, module: str) -> str | None:
    """Return the file that has the config functions of `--module`, as torchtitan looks for it; None where none is here."""
    inner = module.replace(".", "/")
    paths = [f"{folder}/{inner}/{REGISTRY}" for folder in FOLDERS]
    paths += [f"{inner}/{REGISTRY}", f"{inner}.py"]
    return next((path for path in paths if command.exists(path)), None)


def read_copy(
    command: LaunchCommand, module: Setting, name: Setting
) -> Reading[TitanConfig] | None:
    """Return the config that a function of the checkout gives; None where no file here has it."""
    path = registry_of(command, str(module.value))
    sections = _defaults(command)
    if path is None or sections is None:
        return None
    functions = FunctionReader(command, NOT_FOLLOWED)
    if functions.function(path, str(name.value)) is None:
        return None
    made = functions.result(path, str(name.value))
    where = Place("script", path, str(name.value))
    config = TitanConfig(MODULE_VERSION, module=str(module.value), copied_from=where)
    if not isinstance(made, Made):
        unread = f"what {name.value} of {path} gives is known only when it runs"
        fix = "--set model=ID --set micro_batch_size=N --set seq_len=N"
        return Reading(config, (Problem(unread, where.where, fix, "PF142", "warning"),))
    classes, is_graph = SECTIONS, False
    if made.name == TO_GRAPHS:
        from preflight.launchers.torchtitan import graph_trainer  # few launches have it

        own = _class_defaults(command, graph_trainer.CONFIGS).get(graph_trainer.OF_COMPILE, {})
        traced = graph_trainer.under_graphs(functions, made, own)
        if traced is not None:
            made, is_graph = traced, True
            sections["compile"].update(own)
            classes = {**SECTIONS, "compile": graph_trainer.OF_COMPILE}
    problems = list(_of_trainer(functions, made, where))
    values: dict[str, Any] = {}
    for section, defaults in sections.items():
        given = made.attributes.get(section, Made("", path))
        known = ("", classes[section])
        is_known = isinstance(given, Made) and given.name.rpartition(".")[2] in known
        if not is_known or (isinstance(given, Made) and given.has_more):
            problems.append(_unknown(section, where))
        values[section] = {**defaults, **(given.attributes if isinstance(given, Made) else {})}
        for key, value in values[section].items():
            if not is_plain(value):
                problems.append(_unknown(f"{section}.{key}", where))
                values[section][key] = defaults.get(key)
    entry, of_parts = _parts(functions, made, where)
    entry.update(values, is_graph=is_graph)
    config = replace(config, module=entry["family"], entry=entry, defaults=values)
    return Reading(config, (*problems, *of_parts))


def _defaults(command: LaunchCommand) -> dict[str, dict[str, Any]] | None:
    """Return section -> key -> the default that the checkout's own class has; None where it has no such classes."""
    classes = _class_defaults(command, CLASSES)
    if not classes.keys() >= {*SECTIONS.values()}:
        return None
    return {section: classes[name] for section, name in SECTIONS.items()}


def _class_defaults(command: LaunchCommand, path: str) -> dict[str, dict[str, Any]]:
    """Return class -> key -> default, of the classes of a file."""
    tree = read_tree(command, path)
    found: dict[str, dict[str, Any]] = {}
    constants: dict[str, ast.expr] = {"list": ast.List([])}
    for node in [] if tree is None else tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.ClassDef):
            found[node.name] = dict(_fields(node, path, found, constants))
    return found


def _fields(
    cls: ast.ClassDef,
    path: str,
    above: Mapping[str, Mapping[str, Any]],
    constants: Mapping[str, ast.expr],
) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a class and their defaults; those of a class above it behind the key that holds one."""
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            key, value = node.target.id, node.value
            if isinstance(value, ast.Call):  # field(default_factory=lambda: [...])
                value = keyword_of(value, "default_factory") or value
            if isinstance(value, ast.Lambda):
                value = value.body
            if isinstance(value, ast.Name):
                inner = above.get(value.id, {})
                yield from ((f"{key}.{name}", held) for name, held in inner.items())
                if inner:
                    continue
                value = constants.get(value.id, value)
            try:
                yield key, ast.literal_eval(value)
            except ValueError:
                yield key, Made("", path)


def _of_trainer(functions: FunctionReader, made: Made, where: Place) -> Iterator[Problem]:
    """Yield that another trainer than torchtitan's own runs the config."""
    name, dot, _ = made.name.partition(".")
    if not dot or functions.imported(made.path, name) != TRAINER:
        yield _left_out(f"{made.name} trains in a way of its own", where, f"what {name} does", "")
    if made.has_more:
        yield _unknown("what ** adds", where)


def _parts(
    functions: FunctionReader, made: Made, where: Place
) -> tuple[dict[str, Any], list[Problem]]:
    """Return model, checkpointing, loss and optimizer as a release's table has them, and what is not counted."""
    problems: list[Problem] = []
    entry: dict[str, Any] = {"family": "", "flavor": "", "converted": [], "fused": False}
    spec = made.attributes.get("model_spec")
    if isinstance(spec, Made) and spec.arguments and isinstance(spec.arguments[0], str):
        folder = functions.imported(spec.path, "model_registry").split("/")
        if folder[1:2] == ["models"] or folder[1:3] == ["experiments", "graph_trainer"]:
            entry["family"] = folder[-2]
        entry["flavor"] = spec.arguments[0]
        converters = spec.attributes.get("converters", [])
        each = converters if isinstance(converters, list) else [converters]
        entry["converted"] = [_class_of(one) for one in each]
        others = [key for key in spec.attributes if key not in SAME_SIZES]
        if others:
            shown = f"model_registry({', '.join(others)})"
            problems.append(_left_out(f"{shown} changes what is estimated", where, shown, ""))
    else:
        problems.append(_unknown("model_spec", where))
    held = made.attributes.get("activation_checkpoint", Made("SelectiveAC.Config", made.path))
    entry["activation_checkpoint"] = "NoneType" if held is None else _class_of(held)
    entry["loss"] = _class_of(made.attributes.get("loss"))
    optimizer = _class_of(made.attributes.get("optimizer"))
    entry["optimizer"] = {"name": "AdamW" if optimizer == "default_adamw" else optimizer}
    entry["fused"] = "override" in made.attributes
    for part, known in KNOWN.items():
        if entry[part] not in known:
            message = f"{part} {entry[part] or 'that is not known'} is estimated as {known[0]}"
            problems.append(_left_out(message, where, f"{part} {entry[part]}".strip(), ""))
    return entry, problems


KNOWN = {
    "activation_checkpoint": ("NoneType", "SelectiveAC", "FullAC", "MemoryBudgetAC"),
    "loss": ("CrossEntropyLoss", "ChunkedLossWrapper"),
}
"""Part of a config -> the classes that the plan has a word for, the one that is taken for others first."""


def _class_of(made: object) -> str:
    """Return the class whose `Config` an object is; empty where that is not known."""
    return made.name.removesuffix(".Config") if isinstance(made, Made) else ""


def _unknown(what: str, where: Place) -> Problem:
    message = f"{what} of {where.key} is known only when it runs"
    return replace(_left_out(message, where, f"{what} of {where.key}", ""), id="PF142")


def _left_out(message: str, where: Place, unpriced: str, fix: str) -> Problem:
    return Problem.left_out(message, where.where, unpriced, "either", fix)


def unknown_keys(config: TitanConfig, flags: Mapping[str, Setting]) -> Iterator[Problem]:
    """Yield flags of sections whose class the checkout has, and which it does not know."""
    for key, setting in flags.items():
        section, _, name = key.partition(".")
        known = config.defaults.get(section)
        if section in ("training", "parallelism") and known is not None and name not in known:
            names = tuple(f"{section}.{each}" for each in known)
            message = f"{section} of this working copy has no {name}"
            yield Problem(message, setting.place.where, nearest_fix(key, names), "PF111")


def in_rows(config: TitanConfig) -> TitanConfig:
    """Return the config with rows of a length in place of tokens, where the checkout counts tokens."""
    training = config.defaults.get("training", {})
    if "max_context_length" not in training:
        return config
    given = dict(config.given)

    def value(key: str) -> tuple[int, list[Setting]]:
        setting, default = given.pop(key, None), config.default(key)
        held = default if setting is None or not isinstance(setting.value, int) else setting.value
        return int(held) if isinstance(held, int) else 1, [] if setting is None else [setting]

    (tokens, by_tokens), (longest, by_length) = value(TOKENS), value(CONTEXT)
    length = max(1, min(tokens, longest))
    rows = -(-tokens // length)
    stages = given.get(STAGES)
    in_stages = (config.default(STAGES) if stages is None else stages.value) != 1
    in_flight, by_flight = value(IN_FLIGHT) if in_stages else (1, [])
    step, by_step = value(STEP_TOKENS)
    said = {
        "training.seq_len": (length, by_length),
        "training.local_batch_size": (rows * in_flight, by_tokens or by_flight or by_length),
        "training.global_batch_size": (-1 if step < 1 else -(-step // length), by_step),
        "parallelism.pipeline_parallel_microbatch_size": (rows, by_tokens or by_length),
    }
    defaults = {section: dict(keys) for section, keys in config.defaults.items()}
    for key, (number, settings) in said.items():
        section, _, name = key.partition(".")
        defaults.setdefault(section, {})[name] = number
        if settings:
            given[key] = Setting(number, settings[0].place)
    return replace(config, given=given, defaults=defaults)
