"""formulas/optimizer_states.json: what every element costs an optimizer of torch or of a package, from the real class.

Each class steps twice over small parameters on the CPU. Kept are those whose states are so many bytes for every element
of any tensor, in fp32 and in 16 bits, with the copies that a step makes in passing; and which options of the constructor
change that, with what it is then. A package that is not installed keeps its rows.
"""

from __future__ import annotations

import inspect
import json
import warnings
import weakref
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from preflight.derive.target import Files, Say, read
from preflight.values import NamedTuple

PATH = "preflight/formulas/optimizer_states.json"
MODULES = {
    "torch": "torch.optim", "lion_pytorch": "lion_pytorch", "prodigyopt": "prodigyopt", "schedulefree": "schedulefree",
    "optimi": "optimi", "grokadamw": "grokadamw",
}  # fmt: skip
DISTRIBUTIONS = {"optimi": "torch-optimi"}
"""Package -> its name on an index, where that is another."""
SHAPES: tuple[tuple[int, ...], ...] = ((96, 128), (192, 128), (96, 256), (3072,), (4, 16, 32))
"""Of one parameter at a time: where an element costs as much in all of them, factored states are none."""
MANY = 3
NUMBERS = ("momentum", "alpha", "nesterov", "centered")
OF_NO_WEIGHT = (
    "lr",
    "weight_decay",
    "maximize",
    "differentiable",
    "capturable",
    "fused",
    "foreach",
)
"""Options that change no state, or that a GPU chooses by itself: torch's own loop is measured as it is there."""


class Cost(NamedTuple):
    """Bytes of one element: the states of fp32 and of 16-bit parameters; copies that a step makes of all, and of one."""

    states_fp32: float
    states_16_bits: float
    copies_of_all: int
    copies_of_one: int


def files(say: Say) -> Files:
    """Yield the file, with the rows of the packages that are here made again."""
    table: dict[str, Any] = json.loads(read(PATH) or "{}")
    for package, module in MODULES.items():
        if find_spec(package) is None:
            continue
        rows = dict(_rows(package, import_module(module)))
        say(f"{package}: {len(rows)} classes")
        table[package] = {
            "version": version(DISTRIBUTIONS.get(package, package)).partition("+")[0],
            "classes": rows,
        }
    yield PATH, _text(table)


def _text(table: dict[str, Any]) -> str:
    parts = []
    for package, one in sorted(table.items()):
        rows = ",\n".join(
            f"  {json.dumps(n)}: {json.dumps(c)}" for n, c in sorted(one["classes"].items())
        )
        head = f' {json.dumps(package)}: {{"version": {json.dumps(one["version"])}, "classes": {{'
        parts.append(f"{head}\n{rows}\n }}}}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _rows(package: str, module: Any) -> Iterator[tuple[str, Any]]:
    import torch

    for name in sorted(dir(module)):
        cls = getattr(module, name)
        if not inspect.isclass(cls) or not issubclass(cls, torch.optim.Optimizer):
            continue
        if cls is torch.optim.Optimizer or cls.__module__.partition(".")[0] != package:
            continue
        plain = cost_of(cls, {})
        if plain is not None:
            yield name, [*plain, dict(_options(cls, plain))]


def _options(cls: Any, plain: Cost) -> Iterator[tuple[str, Any]]:
    """Yield the options that change what an element costs, each with that; None where it cannot be told."""
    for name, option in inspect.signature(cls.__init__).parameters.items():
        default = option.default
        if name in ("self", "params", *OF_NO_WEIGHT) or default is inspect.Parameter.empty:
            continue
        if default is False:
            tried: Any = True
        elif name in NUMBERS and default == 0:
            tried = 0.9
        elif isinstance(default, int) and default is not True:
            if cost_of(cls, {name: default + 2}) != plain:
                yield name, None  # how much it changes depends on the number
            continue
        elif default is None or default is True or isinstance(default, str):
            yield name, None  # of a word or an object nobody knows what it does
            continue
        else:
            continue
        found = cost_of(cls, {name: tried, **({"momentum": 0.9} if name == "nesterov" else {})})
        if found != plain:
            yield name, None if found is None else list(found)


def cost_of(cls: Any, options: dict[str, Any]) -> Cost | None:
    """Return what an element costs under some options; None where that depends on the tensor, or nothing runs here."""
    import torch

    given = dict(options)
    known = inspect.signature(cls.__init__).parameters
    if "lr" in known and known["lr"].default is inspect.Parameter.empty:
        given["lr"] = 1e-3
    if "foreach" in known and "foreach" not in given:
        given["foreach"] = True  # as torch takes by itself on a GPU
    try:
        states, all_copies, one_copies = {}, [], []
        for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
            each = [_measured(cls, [shape], dtype, given) for shape in SHAPES]
            if len({round(kept, 1) for kept, _ in each}) > 1:
                return None
            states[size] = round(each[0][0], 1)
            one = max(passing for _, passing in each) / size
            many = _measured(cls, [SHAPES[0]] * MANY, dtype, given)[1] * MANY / size
            # copies of all parameters grow with their number, those of one do not
            of_all = (many - one) / (MANY - 1)
            all_copies.append(round(of_all))
            one_copies.append(round(one - of_all))
    except (Exception, SystemExit):  # lion_pytorch ends the process where triton is not there
        return None
    return Cost(states[4], states[2], max(all_copies), max(0, *one_copies))


def _measured(
    cls: Any, shapes: list[tuple[int, ...]], dtype: Any, options: dict[str, Any]
) -> tuple[float, float]:
    """Return the bytes of states, and the most in passing, of an element: of all, where there are several tensors."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(shape).to(dtype)) for shape in shapes]
        optimizer = cls(parameters, **options)
        getattr(optimizer, "train", lambda: None)()
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            kept: dict[int, int] = {}
            held = [*parameters, *(parameter.grad for parameter in parameters)]
            _add([optimizer.state[p] for p in parameters], kept)
            passing = _most_in_passing(optimizer.step, {_key(one) for one in held} | set(kept))
        states: dict[int, int] = {}
        _add([optimizer.state[p] for p in parameters], states)
        _add([dict(g, params=None) for g in optimizer.param_groups], states)
        for one in held:
            states.pop(_key(one), None)
    elements = sum(parameter.numel() for parameter in parameters)
    return sum(states.values()) / elements, passing / elements


def _key(tensor: Any) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _add(value: Any, into: dict[int, int]) -> None:
    """Add the storages that a value holds, but for single numbers."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.numel() > 1:
            into[_key(value)] = value.untyped_storage().nbytes()
    elif isinstance(value, dict):
        for one in value.values():
            _add(one, into)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _add(one, into)


def _most_in_passing(step: Any, known: set[int]) -> int:
    """Return the most bytes that a step holds at once beside what it finds; states that it makes count as found."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    alive: dict[int, Any] = {}
    total = [0, 0]

    def hold(value: Any) -> None:
        if isinstance(value, (list, tuple)):
            for one in value:
                hold(one)
        if not isinstance(value, torch.Tensor) or _key(value) in known or _key(value) in alive:
            return
        storage, key = value.untyped_storage(), _key(value)
        size = storage.nbytes()
        total[0] += size
        total[1] = max(total)

        def gone(_: Any) -> None:
            if alive.pop(key, None) is not None:
                total[0] -= size

        alive[key] = weakref.ref(storage, gone)

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            hold(result)
            return result

    with Mode():  # type: ignore[no-untyped-call]
        step()
    return total[1]
