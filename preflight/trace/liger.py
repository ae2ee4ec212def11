"""Liger's modules on tensors without data: its own code, with Triton kernels that are launched and compute nothing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from preflight.errors import BadInput
from preflight.formulas.layers.kernels import LIGER_SWITCHES
from preflight.trace.patches import replaced

TRITON_MODULES = (
    "triton", "triton.language", "triton.language.extra", "triton.language.extra.libdevice",
    "triton.language.extra.cuda", "triton.language.extra.cuda.libdevice", "triton.language.math", "triton.runtime",
)  # fmt: skip
"""What Liger's modules import of Triton where it is not installed (liger_kernel/ops, 0.8.5)."""


@contextmanager
def with_liger(model: Any, kernels: Sequence[str]) -> Iterator[None]:
    """Replace a model's modules as Trainer does, and put the functions of its class's module back at the end.

    Source: transformers/integrations/liger.py apply_liger_kernel (5.24.0), which calls Liger's
    _apply_liger_kernel_to_instance on the model without its adapter; the loss is not replaced here. What the kernels
    would fill is allocated, and nothing is computed. Raise BadInput where liger-kernel is not installed.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        raise BadInput.one(
            "liger-kernel is not installed, and the plan's kernels are Liger's",
            fix="pip install liger-kernel, or `--set kernels=null` traces the model's own modules",
        )
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    module = sys.modules[type(base).__module__]
    before = dict(vars(module))
    switches = {
        switch: name in kernels for name, switches in LIGER_SWITCHES.items() for switch in switches
    }
    losses = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    with ExitStack() as stack:
        if importlib.util.find_spec("triton") is None:
            # not before the model is built: what transformers imports then looks for Triton's own parts
            stack.enter_context(_standing_in())
            apply = importlib.import_module("liger_kernel.transformers")
        else:
            apply = importlib.import_module("liger_kernel.transformers")
            runtime = importlib.import_module("triton.runtime")
            kinds = (
                runtime.jit.JITFunction,
                runtime.autotuner.Autotuner,
                runtime.autotuner.Heuristics,
            )
            for owner in kinds:
                stack.enter_context(replaced(owner, "run", _nothing))
        apply._apply_liger_kernel_to_instance(model=base, **losses, **switches)
        try:
            yield
        finally:
            vars(module).update(before)


def _nothing(*arguments: Any, **settings: Any) -> None:
    """Be a kernel that was launched."""


class Kernel:
    """A function behind `@triton.jit`: `kernel[grid](...)` launches it."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return _nothing


class StandIn(ModuleType):
    """A module of Triton of which only names are asked, and the few functions that run outside of kernels."""

    __version__ = "3.0.0"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        self.__spec__ = ModuleSpec(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Any()

    @staticmethod
    def jit(function: Any = None, **settings: Any) -> Any:
        return Kernel() if function is not None else lambda inner: Kernel()

    @staticmethod
    def cdiv(dividend: int, divisor: int) -> int:
        return -(-dividend // divisor)

    @staticmethod
    def next_power_of_2(number: int) -> int:
        return 1 << (number - 1).bit_length()


class _Any:
    """A constant, type or decorator of Triton's that nothing asks for more than its being there."""

    def __getattr__(self, name: str) -> _Any:
        return self

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else self


@contextmanager
def _standing_in() -> Iterator[None]:
    modules = {name: StandIn(name) for name in TRITON_MODULES}
    for name, module in modules.items():
        owner, _, last = name.rpartition(".")
        if owner:
            setattr(modules[owner], last, module)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            sys.modules.pop(name, None)
