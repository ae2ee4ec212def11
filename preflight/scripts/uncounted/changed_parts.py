"""What a script puts in the place of a part of its model, adds to it, or puts the whole through: a module of its own, of
which no formula knows what it holds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeGuard

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.nodes import last_name, methods_of, names_in, unparse, walk
from preflight.scripts.python.without_graph import may_run_without_graph
from preflight.scripts.settings.followed_models import PASSES_ON
from preflight.unpriced_names import (
    CAST_LOGITS,
    MAKES,
    NO_GRAPH,
    TAKEN_OFF,
    WIDE_PART,
    adds_to_model,
)

KEEPS_MODEL = frozenset(
    {
        *PASSES_ON, "prepare_model", "unwrap_model", "extract_model_from_parallel", "DataParallel",
        "DistributedDataParallel", "DDP", "FSDP", "FullyShardedDataParallel", "fully_shard", "wrap", "initialize",
        "convert_sync_batchnorm", "setup", "setup_module", "parallelize_module", "replicate", "get_base_model", "cast", "from_pretrained",
    }
)  # fmt: skip
"""Functions whose effect on a model that they are given is read elsewhere, or is none."""
ADDING = frozenset(
    {
        "append", "insert", "extend", "add_module", "register_module", "register_parameter", "register_buffer",
        "set_input_embeddings", "set_output_embeddings", "set_submodule",
    }
)  # fmt: skip
"""Methods of a module, or of its list of layers, that put another into it."""
_GIVE_BACK = frozenset(
    {"to", "cuda", "half", "bfloat16", "float", "eval", "train", "requires_grad_"}
)
"""Methods of a module that return it."""
_ATTRIBUTES = r"(?:\.(?!\w*config)\w+|\[[^\]]*\])*$"
_OF_MODEL = lazy_pattern(rf"^(?:\w+\.)*\w*model{_ATTRIBUTES}")
"""A model, or a part of it that is none of its configs."""
_PART = lazy_pattern(
    rf"^(?:\w*_)?(?:layer|block|module|submodule|parent){_ATTRIBUTES}|{_OF_MODEL.pattern}"
)
"""A model, or a part of one by its name."""
_OVER_LAYERS = lazy_pattern(r"model\b.*\.(?:layers?|blocks?|h)\b")
"""What a loop over the layers of a model goes through."""
_OVER_PARTS = lazy_pattern(rf"\b(?:named_)?(?:modules|children)\(\)|{_OVER_LAYERS.pattern}")
"""What a loop over the parts of a model goes through."""
_A_PART = lazy_pattern(rf"^(?:\w+\.)*\w*model(?:\.get_(?:in|out)put_embeddings\(\))?{_ATTRIBUTES}")
"""A model, its embeddings by the method that gives them, or a part of these that is none of its configs."""
_FP32 = lazy_pattern(r"\bfloat32\b|\btorch\.float\b")
_SMALL = lazy_pattern(r"norm|\bln_|bias|router|(?:^|\.)\w*model$")
"""Parts of few numbers, and the whole of a model."""
_OF_LAYER = lazy_pattern(r"\[|layers?\b|blocks?\b")
"""What lies in a layer, and makes no logits."""
_HEAD = lazy_pattern(r"head|embed_out|output")
"""A part that makes the logits, by its name or that of what holds it."""
_CASTS = lazy_pattern(
    r"super\(.*?\)\.forward\(\w+(?:\.to\([\w.]+\))?\)\.(?:to\((?:dtype=)?torch\.float(?:32)?\)|float\(\))$"
)
"""What a class gives that casts what its parent makes."""
_CLASS_OF_MODEL = lazy_pattern(
    r"(?:^|\.)[A-Z]\w*(?:Model|ForCausalLM|ForConditionalGeneration|Layer|Block|MLP|MoE)$"
)
"""A class of a model, or of a part of it that keeps what a formula counts; attention is read elsewhere."""
_NEW_MODULE = lazy_pattern(r"^new|_new$|linear|layer|module|quant|lora|adapter", re.IGNORECASE)


def changed_parts(nodes: Sequence[ast.AST], functions: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield what becomes of a file's model, each with its line; `functions` are those of the repository, whose own text is
    looked into."""
    parts = _looped(nodes)
    looped_names = _layer_names(nodes)
    classes = (each for each in nodes if isinstance(each, ast.ClassDef))
    casting = frozenset(each.name for each in classes if _casts(each))
    named = _named_parts(nodes) if casting else frozenset()
    for node in nodes:
        if casting and _is_cast_head(node, casting, named):
            yield CAST_LOGITS, node.lineno
        elif isinstance(node, ast.Assign):
            if name := _unknown_change(node, functions, id(node) in parts):
                yield f"what {name}{MAKES}", node.lineno
            elif _is_cut(node.targets[0], node.value):
                yield TAKEN_OFF, node.lineno
        elif isinstance(node, ast.Call) and (name := _added_module(node)):
            yield adds_to_model(name), node.lineno
        elif isinstance(node, ast.Delete) and any(map(_is_layer, node.targets)):
            yield TAKEN_OFF, node.lineno
        if isinstance(node, (ast.Assign, ast.Expr)) and _is_widened(node, looped_names):
            yield WIDE_PART, node.lineno


def _looped(nodes: Sequence[ast.AST]) -> set[int]:
    """Return the ids of the statements that give a part to what a loop over a model's parts has in hand: `layer.mlp = ...`."""
    return {
        id(node)
        for loop in nodes
        if isinstance(loop, ast.For) and _OVER_PARTS.search(unparse(loop.iter))
        for names in [names_in(loop.target)]
        for node in walk(loop)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and unparse(node.targets[0]).partition(".")[0] in names
    }


def _layer_names(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Return the names that loops over the layers of a model give them."""
    loops = (each for each in nodes if isinstance(each, ast.For))
    over_layers = (each for each in loops if _OVER_LAYERS.search(unparse(each.iter)))
    return frozenset(name for loop in over_layers for name in names_in(loop.target))


def _is_widened(node: ast.Assign | ast.Expr, layers: frozenset[str]) -> bool:
    """Tell whether a statement makes a part of a model fp32: `model.lm_head.float()`, also where it is given back.

    What is said of every module or parameter is read in settings/parameter_casts.py.
    """
    call = node.value
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    part = unparse(call.func.value)
    if isinstance(node, ast.Assign) and unparse(node.targets[0]) != part:
        return False
    is_wide = call.func.attr == "float" or (
        call.func.attr == "to" and _FP32.search(unparse(call)) is not None
    )
    root, _, below = part.partition(".")
    is_part = _A_PART.match(part) is not None or (root in layers and below)
    return bool(is_wide and is_part and _SMALL.search(part) is None)


def _unknown_change(assign: ast.Assign, functions: frozenset[str], is_looped: bool) -> str:
    """Return the function or class of another package that a model or a part of it is put through, or that takes the place
    of one, where its effect is not known."""
    call, target = _made(assign.value), unparse(assign.targets[0])
    owner, _, attribute = target.rpartition(".")
    is_part = is_looped or _PART.match(owner) is not None
    if attribute == "forward" and (is_part or _CLASS_OF_MODEL.search(owner)):
        return "a forward of its own"
    if re.search(r"\bmodeling_\w+$", owner) and _CLASS_OF_MODEL.search(target):
        return f"a class of its own as {attribute}"
    if not isinstance(call, ast.Call) or _is_cut(assign.targets[0], call):
        return ""
    name = last_name(call.func)
    if is_part and _is_module(name):
        return f"{name} as {attribute}"
    is_model = MODEL.match(target) is not None
    is_given = any(unparse(each) == target for each in call.args[:1])
    is_method = unparse(call.func).rpartition(".")[0] == target
    is_known = name in KEEPS_MODEL or name in functions or is_method
    return name if (is_part or is_model) and is_given and not is_known else ""


def _casts(cls: ast.ClassDef) -> bool:
    """Tell whether a class runs the module that it is given and makes the outcome fp32: `CastOutputToFloat`, which scripts
    have from PEFT's first examples."""
    forward = methods_of(cls).get("forward")
    body = [each for each in cls.body if not isinstance(each, ast.Expr)]
    if forward is None or body != [forward] or "Sequential" not in map(last_name, cls.bases):
        return False
    returned = [each for each in forward.body if not isinstance(each, ast.Expr)]
    if len(returned) != 1 or not isinstance(returned[0], ast.Return):
        return False
    return returned[0].value is not None and _CASTS.match(unparse(returned[0].value)) is not None


def _is_cast_head(
    node: ast.AST, casting: frozenset[str], parts: frozenset[str]
) -> TypeGuard[ast.Assign | ast.Call]:
    """Tell whether a statement puts a head into a class that casts what it makes: `model.lm_head = Cast(model.lm_head)`."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        name, owner, value = node.targets[0].attr, unparse(node.targets[0]), node.value
        if _OF_LAYER.search(owner):
            return False
    elif isinstance(node, ast.Call) and last_name(node.func) == "setattr" and len(node.args) == 3:
        name, owner, value = unparse(node.args[1]), "", node.args[2]
    else:
        return False
    if not isinstance(value, ast.Call) or last_name(value.func) not in casting:
        return False
    given = [*map(unparse, value.args)]
    return _HEAD.search(name) is not None and len(given) == 1 and given[0] in (owner, *parts)


def _named_parts(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """Return the names that a file has for parts of a model: `head = model.lm_head`, `layer: Linear = getattr(model, name)`."""
    given = [
        (node.targets[0] if isinstance(node, ast.Assign) else node.target, node.value)
        for node in nodes
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
    ]
    return frozenset(
        unparse(name)
        for name, value in given
        if (isinstance(value, ast.Call) and last_name(value.func) == "getattr")
        or _OF_MODEL.match(unparse(value))
    )


def _made(value: ast.expr) -> ast.expr:
    """Return what is put somewhere, before methods that give it back: `Head(4096).cuda()`."""
    while (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in _GIVE_BACK
        and isinstance(value.func.value, ast.Call)
    ):
        value = value.func.value
    return value


def _made_by(value: ast.expr) -> str:
    """Return the name of the class or function that makes what is put somewhere."""
    made = _made(value)
    return last_name(made.func) if isinstance(made, ast.Call) else ""


def _is_cut(target: ast.expr, value: ast.expr) -> bool:
    """Tell whether layers of a model become some of themselves: `model.layers = nn.ModuleList(model.layers[:8])`."""
    if isinstance(value, ast.Call) and last_name(value.func) == "ModuleList" and value.args:
        value = value.args[0]
    return _is_layer(value) and unparse(value.value) == unparse(target)


def _is_layer(node: ast.expr) -> TypeGuard[ast.Subscript]:
    """Tell whether an expression is one of a model's layers, or several: `model.layers[8:]`."""
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Attribute):
        return False
    return _OF_MODEL.match(unparse(node.value)) is not None


def _added_module(call: ast.Call) -> str:
    """Return the function by which a part of a model gets another module: `model.model.layers.append(copied)`."""
    if isinstance(call.func, ast.Name) and call.func.id == "setattr" and len(call.args) == 3:
        owner, _, value = call.args
        is_made = _is_module(_made_by(value))
        is_new = is_made or (isinstance(value, ast.Name) and _NEW_MODULE.search(value.id))
        return "setattr" if is_new and _PART.match(unparse(owner)) else ""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ADDING:
        return ""
    owner_name = unparse(call.func.value)
    is_list = call.func.attr in ("append", "insert", "extend")
    is_part = _OF_MODEL.match(owner_name) is not None and ("." in owner_name or not is_list)
    return call.func.attr if is_part else ""


def _is_module(name: str) -> bool:
    """Tell whether a class may be a module by its name; a config and a torch.dtype are not."""
    return name[:1].isupper() and not re.search(r"Config|Type|Cache$|Path$|Dict$", name)


def without_graph(nodes: Iterable[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a `forward` runs a part of its module under no_grad: `with torch.no_grad(): h = self.base(**batch)`."""
    for node in nodes:
        if not isinstance(node, ast.FunctionDef) or node.name != "forward" or not node.args.args:
            continue
        own = f"{node.args.args[0].arg}."
        for block in walk(node):
            if not isinstance(block, ast.With) or not may_run_without_graph(block):
                continue
            calls = [each for each in walk(block) if isinstance(each, ast.Call)]
            of_parts = (each.lineno for each in calls if unparse(each.func).startswith(own))
            yield from ((NO_GRAPH, line) for line in of_parts)
