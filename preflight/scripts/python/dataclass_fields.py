"""The dataclasses of a training script: their fields, those of their bases too, and what each holds in this launch."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from preflight.scripts.arguments.trainer_tables import fields_of_class
from preflight.scripts.python.class_table import ClassTable
from preflight.scripts.python.field_types import converted
from preflight.scripts.python.nodes import argument_of, targets_of, unparse, walk
from preflight.scripts.python.scope import UNKNOWN, FlagOf, Known, Parsed, Scope
from preflight.scripts.python.values import Evaluator
from preflight.setting import Place
from preflight.values import NamedTuple

DATACLASS_PARSERS = ("HfArgumentParser", "TrlParser", "H4ArgumentParser")
"""Of transformers and TRL, and alignment-handbook's, which many scripts have a copy of."""
TRAINER_BASES = (
    "TrainingArguments", "Seq2SeqTrainingArguments", "SFTConfig", "DPOConfig", "GRPOConfig", "KTOConfig",
    "RewardConfig", "RLOOConfig", "DistillationConfig", "ORPOConfig", "CPOConfig", "BCOConfig", "PRMConfig",
    "PPOConfig", "PPOv2Config", "OnlineDPOConfig", "NashMDConfig", "XPOConfig", "GKDConfig",
    "SentenceTransformerTrainingArguments", "CrossEncoderTrainingArguments", "SparseEncoderTrainingArguments",
)  # fmt: skip
"""Classes whose fields are the Trainer's arguments."""

RENAMED = {"torch_dtype": "dtype"}
"""Fields of TRL's ModelConfig under an older name (renamed in 0.22, read with both) -> the name that the table has."""


_OF_TRANSFORMERS = {"bf16": False, "deepspeed": None, "fp16": False}
NEVER_MOVED: Mapping[str, Mapping[str, object]] = {
    "ModelConfig": {"attn_implementation": None, "load_in_4bit": False, "load_in_8bit": False},
    "TrainingArguments": _OF_TRANSFORMERS,
    "Seq2SeqTrainingArguments": _OF_TRANSFORMERS,
}
"""Library's class -> fields whose default is the same in every release (trl/trainer/model_config.py, 0.8 to 1.16;
transformers/training_args.py and training_args_seq2seq.py, which adds to it alone, 4.12 to 5.24)."""


OF_TRAINERS: Mapping[str, object] = {"do_predict": False, "eval_strategy": "no"}
"""Fields with one default in all of TRAINER_BASES, in every release that has them."""
EARLIER_NAMES = {"eval_strategy": ("evaluation_strategy",)}
"""Field -> other flags that set it (transformers/training_args.py __post_init__, 4.41 to 4.45)."""


class Field(NamedTuple):
    """One field of a dataclass, as the class says it that counts."""

    name: str
    annotation: ast.expr
    default: ast.expr | None
    scope: Scope
    line: int
    is_argument: bool
    """False for `field(init=False)`, which no parser fills."""


OF_FIELDS = ("NamedTuple", "BaseModel")
"""Classes, of typing and of pydantic, that make fields of annotations as a dataclass does."""


def _last(node: ast.expr) -> str:
    return unparse(node).rpartition(".")[2]


def _has_no_methods(cls: ast.ClassDef) -> bool:
    return not any(isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) for node in cls.body)


def is_dataclass(cls: ast.ClassDef) -> bool:
    """Tell whether a class is decorated as one, or makes fields of its annotations as one does."""
    named = any(_last(base) in OF_FIELDS for base in cls.bases)
    return named or any("dataclass" in unparse(decorator) for decorator in cls.decorator_list)


def bases(
    cls: ast.ClassDef, classes: ClassTable
) -> Iterator[tuple[str, ast.ClassDef | None, Scope]]:
    """Yield the name of every base with its class, None where that is not in the script."""
    for base in cls.bases:
        name = classes.base_name(cls, base)
        held = classes.base_of(cls, base)
        yield (name, *held) if held is not None else (name, None, Scope(path=""))


def is_trainer_class(cls: ast.ClassDef, classes: ClassTable, depth: int = 0) -> bool:
    """Tell whether a class is TrainingArguments with fields added, at whatever distance."""
    return depth < MAX_BASES and any(
        name in TRAINER_BASES if base is None else is_trainer_class(base, classes, depth + 1)
        for name, base, _ in bases(cls, classes)
    )


def is_closed(cls: ast.ClassDef, classes: ClassTable, depth: int = 0) -> bool:
    """Tell whether nothing but the script says what a class holds: no enumeration, no pydantic model with methods of its own."""
    return depth < MAX_BASES and all(
        name == "object" or (name in OF_FIELDS and _has_no_methods(cls))
        if base is None
        else is_closed(base, classes, depth + 1)
        for name, base, _ in bases(cls, classes)
    )


MAX_BASES = 16
"""Classes above one another; also what ends a cycle."""


def class_fields(
    cls: ast.ClassDef, scope: Scope, classes: ClassTable, depth: int = 0
) -> dict[str, Field]:
    """Return the fields that the script gives a class, in the order of its __init__."""
    fields: dict[str, Field] = {}
    for _, base, above in reversed(list(bases(cls, classes))):
        if base is not None and depth < MAX_BASES:
            fields.update(class_fields(base, above, classes, depth + 1))
    for node in cls.body if is_dataclass(cls) else ():
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        if "ClassVar" in unparse(node.annotation):
            continue
        name, value, is_argument = node.target.id, node.value, True
        if isinstance(value, ast.Call) and _last(value.func) in ("field", "HfArg", "Field"):
            keywords = {keyword.arg: keyword.value for keyword in value.keywords}
            if value.args:
                keywords["default"] = value.args[0]
            init = keywords.get("init")
            is_argument = not (isinstance(init, ast.Constant) and init.value is False)
            value = _default(keywords)
        fields[name] = Field(name, node.annotation, value, scope, node.lineno, is_argument)
    return fields


def _default(keywords: Mapping[str | None, ast.expr]) -> ast.expr | None:
    """Return what `field(...)` says, as an expression; a name nobody knows for a factory that is no literal."""
    factory = keywords.get("default_factory")
    if isinstance(factory, ast.Lambda):
        return factory.body
    if factory is not None and unparse(factory) in ("list", "dict"):
        return ast.parse(f"{unparse(factory)}()", mode="eval").body
    return factory if factory is not None else keywords.get("default")


def dataclass_types(made: ast.Call, scope: Scope) -> list[ast.expr]:
    """Return the classes that HfArgumentParser or TrlParser is made of, as written; none where that is not a list."""
    node = argument_of(made, 0, "dataclass_types")
    if isinstance(node, ast.Name) and len(scope.assigned.get(node.id, ())) == 1:
        node = scope.assigned[node.id][0]
    if node is None:
        return []
    return list(node.elts) if isinstance(node, (ast.Tuple, ast.List)) else [node]


def dataclass_names(
    cls: ast.ClassDef, scope: Scope, classes: ClassTable, evaluator: Evaluator, flag_of: FlagOf
) -> Parsed:
    """Return the fields of one dataclass as HfArgumentParser fills them."""
    names = dict(library_names(cls, classes, flag_of))
    for field in class_fields(cls, scope, classes).values():
        # fire has `--train_config.lr 1e-4` too, where the keyword goes on to an object of that class.
        names_of = [field.name, f"{cls.name}.{field.name}"]
        given = flag_of(names_of) if field.is_argument else None
        if given is not None:
            value = converted(given.value, field.annotation)
            names[field.name] = Known(value, given.place, field.name)
        elif field.default is not None:
            value = evaluator.value(field.default, field.scope)
            place = Place("script", field.scope.path, field.name, field.line)
            names[field.name] = Known(value, place, field.name)
    return Parsed(with_set_on_self(names, cls, scope, classes))


def library_names(
    cls: ast.ClassDef, classes: ClassTable, flag_of: FlagOf, depth: int = 0
) -> Iterator[tuple[str, Known]]:
    """Yield what the command line says of the fields that a class has from transformers or TRL."""
    for name, base, _ in bases(cls, classes) if depth < MAX_BASES else ():
        if base is not None:
            yield from library_names(base, classes, flag_of, depth + 1)
        else:
            yield from given_names(name, flag_of)


def given_names(library_class: str, flag_of: FlagOf) -> Iterator[tuple[str, Known]]:
    """Yield what the command line says of the fields of one of transformers' or TRL's classes, and defaults that never moved."""
    is_trainers = library_class in TRAINER_BASES
    # one that has no table adds to TrainingArguments' all the same
    of_all = fields_of_class("TrainingArguments") if is_trainers else None
    fields = fields_of_class(library_class) or of_all or frozenset()
    never_moved = {**NEVER_MOVED.get(library_class, {}), **(OF_TRAINERS if is_trainers else {})}
    for name in (*fields, *(older for older, now in RENAMED.items() if now in fields)):
        given = flag_of([name, *EARLIER_NAMES.get(name, ())])
        if given is not None:
            yield name, Known(given.value, given.place, name)
        elif name in never_moved:
            yield name, Known(never_moved[name], Place("script", "", name), name)


def with_set_on_self(
    names: dict[str, Known], cls: ast.ClassDef, scope: Scope, classes: ClassTable
) -> dict[str, Known]:
    """Return the names without the values that the class's own methods change, as __post_init__ does."""
    if id(cls) not in classes.set_on_self:
        classes.set_on_self[id(cls)] = list(_set_on_self(cls, classes, 0))
    for name, line, fills_none in classes.set_on_self[id(cls)]:
        held = names.get(name)
        if fills_none and held is not None and held.value is not UNKNOWN and held.value is not None:
            continue
        names[name] = Known(UNKNOWN, Place("script", scope.path, name, line))
    return names


def _set_on_self(
    cls: ast.ClassDef, classes: ClassTable, depth: int
) -> Iterator[tuple[str, int, bool]]:
    """Yield every attribute of `self` that is set, where, and whether only where it was None."""
    for _, base, _ in bases(cls, classes):
        if base is not None and depth < MAX_BASES:
            yield from _set_on_self(base, classes, depth + 1)
    for method in cls.body:
        if isinstance(method, ast.FunctionDef):
            filled = {id(node) for test in walk(method) for node in _filled(test)}
            for node in walk(method):
                for name in _targets(node):
                    yield name, node.lineno, id(node) in filled  # type: ignore[attr-defined]


def _targets(node: ast.AST) -> list[str]:
    """Return the attributes of `self` that a statement sets; a name computed when it runs cannot be told."""
    if not isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        return []
    return [
        inner.attr
        for target in targets_of(node)
        for inner in walk(target)
        if isinstance(inner, ast.Attribute) and unparse(inner.value) == "self"
    ]


def _filled(node: ast.AST) -> list[ast.AST]:
    """Return the statements below `if self.x is None:` that set x."""
    if not isinstance(node, ast.If):
        return []
    return [
        inner
        for each in node.body
        for inner in walk(each)
        for name in _targets(inner)
        if unparse(node.test) == f"self.{name} is None"
    ]


def class_values(
    cls: ast.ClassDef, scope: Scope, classes: ClassTable, evaluator: Evaluator
) -> Parsed:
    """Return what a class of settings says that no parser fills: fields of a dataclass, or plain attributes."""
    if is_dataclass(cls):
        held = dataclass_names(cls, scope, classes, evaluator, lambda _: None).names
        return Parsed({name: Known(known.value, known.place) for name, known in held.items()})
    names: dict[str, Known] = {}
    written: list[str] = []
    for node in cls.body:
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        for target in () if value is None else targets_of(node):
            if isinstance(target, ast.Name) and value is not None:
                written.append(target.id)
                place = Place("script", scope.path, target.id, node.lineno)
                names[target.id] = Known(evaluator.value(value, scope), place)
    for name in names:
        if written.count(name) > 1:
            names[name] = Known(UNKNOWN, names[name].place)
    return Parsed(with_set_on_self(names, cls, scope, classes))
