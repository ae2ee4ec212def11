"""What a script puts in the place of a part of its model, adds to it, or puts the whole through: a module of its own, of
which no formula knows what it holds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from preflight.scripts.files import last_name
from preflight.scripts.model_calls import PASSES_ON
from preflight.scripts.nodes import unparse
from preflight.scripts.own_losses import MODEL

KEEPS_MODEL = frozenset(
    {
        *PASSES_ON, "prepare_model", "unwrap_model", "extract_model_from_parallel", "DataParallel",
        "DistributedDataParallel", "DDP", "FSDP", "FullyShardedDataParallel", "fully_shard", "wrap", "initialize",
        "convert_sync_batchnorm", "setup", "setup_module", "parallelize_module", "replicate", "get_base_model", "cast", "from_pretrained",
    }
)  # fmt: skip
"""Functions whose effect on a model that they are given is read elsewhere, or is none."""
ADDING = frozenset({"append", "insert", "extend", "add_module", "register_module"})
_OF_MODEL = re.compile(r"^(?:\w+\.)*\w*model(?:\.(?!\w*config)\w+(?:\[[^\]]*\])?)*$")
"""A model, or a part of it that is none of its configs."""
_CLASS_OF_MODEL = re.compile(
    r"(?:^|\.)[A-Z]\w*(?:Model|ForCausalLM|ForConditionalGeneration|Layer|Block|MLP|MoE)$"
)
"""A class of a model, or of a part of it that keeps what a formula counts; attention is read elsewhere."""


def changed_parts(nodes: Sequence[ast.AST], functions: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield what becomes of a file's model, each with its line; `functions` are those of the repository, whose own text is
    looked into."""
    for node in nodes:
        if isinstance(node, ast.Assign) and (name := _unknown_change(node, functions)):
            yield f"what {name} makes of the model", node.lineno
        elif isinstance(node, ast.Call) and (name := _added_module(node)):
            yield f"what {name} adds to the model", node.lineno


def _unknown_change(assign: ast.Assign, functions: frozenset[str]) -> str:
    """Return the function of another package that a model is put through, where its effect is not known."""
    call, target = assign.value, unparse(assign.targets[0])
    owner, _, attribute = target.rpartition(".")
    if attribute == "forward" and (_OF_MODEL.match(owner) or _CLASS_OF_MODEL.search(owner)):
        return "a forward of its own"
    if re.search(r"\bmodeling_\w+$", owner) and _CLASS_OF_MODEL.search(target):
        return f"a class of its own as {attribute}"
    if isinstance(call, ast.Call) and _OF_MODEL.match(owner) and _is_module(last_name(call.func)):
        return f"{last_name(call.func)} as {attribute}"
    if not isinstance(call, ast.Call) or not call.args or MODEL.match(target) is None:
        return ""
    name, owner = last_name(call.func), unparse(call.func).rpartition(".")[0]
    is_given = unparse(call.args[0]) == target and owner != target
    return name if is_given and name not in KEEPS_MODEL and name not in functions else ""


def _added_module(call: ast.Call) -> str:
    """Return the method by which a part of a model gets another module: `model.model.layers.append(copied)`."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ADDING:
        return ""
    owner = unparse(call.func.value)
    is_part = _OF_MODEL.match(owner) is not None and ("." in owner or "module" in call.func.attr)
    return call.func.attr if is_part else ""


def _is_module(name: str) -> bool:
    """Tell whether a class may be a module by its name; a config and a torch.dtype are not."""
    return name[:1].isupper() and not re.search(r"Config|Type|Cache$|Path$|Dict$", name)
