"""What a traced step imports: torch and transformers, without what it never calls.

Half of a short trace is imports. What nothing of a step asks for is left out in the tracing process: a compiler that
compiles nothing, libraries of tables and data sets, adapters of a model that has none.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
from types import ModuleType
from typing import Any

from preflight.trace.job import TraceJob

COMPILER = "torch._dynamo"
OF_A_STEP = ("config", "_trace_wrapped_higher_order_op")
"""Modules of torch's compiler that checkpointing (torch/utils/checkpoint.py, 2.13) and masks (transformers/masking_utils.py,
5.24.0) ask for; neither needs the others."""
TABLES = ("pandas", "datasets")
"""TRL's module of the fused head imports them for its trainers (trl/trainer/utils.py:36-42, 1.16.0)."""


def import_libraries(job: TraceJob) -> None:
    """Import what the trace of a job needs."""
    for name in hidden(job):
        sys.modules[name] = None  # type: ignore[assignment]  # as importlib does: not to be found
    # transformers, PEFT and TRL each read the metadata of every installed package
    importlib.metadata.packages_distributions = functools.cache(
        importlib.metadata.packages_distributions
    )
    import torch

    torch.set_num_threads(1)
    put_compiler_off()
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    if job.loss == "chunked_linear":
        for name in TABLES:
            sys.modules.setdefault(name, _Unused(name))


def hidden(job: TraceJob) -> list[str]:
    """Return the libraries that others import where they find them, and that this job does not use."""
    hides = {
        "bitsandbytes": not job.uses_bitsandbytes,
        "peft": job.adapter is None,
    }
    return [name for name, is_hidden in hides.items() if is_hidden]


def put_compiler_off() -> None:
    """Put off the import of torch's compiler until something of it is asked for that an eager step does not use.

    torch.optim, checkpointing and FSDP2 ask it to leave their functions alone, which it does where it compiles nothing.
    """
    if COMPILER in sys.modules:
        return
    spec = importlib.util.find_spec(COMPILER)
    if spec is None or not spec.submodule_search_locations:
        return
    later = _Compiler(COMPILER)
    later.__spec__, later.__path__ = spec, list(spec.submodule_search_locations)
    sys.modules[COMPILER] = later
    try:
        for name in OF_A_STEP:
            importlib.import_module(f"{COMPILER}.{name}")
    except ImportError:  # a release of torch that keeps them elsewhere
        del sys.modules[COMPILER]
        return
    del later.__path__  # whatever else is imported from it imports it whole


class _Compiler(ModuleType):
    """torch's compiler until it is needed."""

    @staticmethod
    def disable(fn: Any = None, *_: Any, **__: Any) -> Any:
        """Return a function as it is: nothing is compiled."""
        return (lambda one: one) if fn is None else fn

    allow_in_graph = assume_constant_result = disable
    """Decorators of transformers' kernels (transformers/integrations/deepgemm.py, 5.24.0)."""

    @staticmethod
    def graph_break(*_: Any, **__: Any) -> None:
        """Do nothing: there is no graph."""

    class trace_rules:
        """What a process group clears as it is made (torch/distributed/distributed_c10d.py:1785, 2.13)."""

        @staticmethod
        def clear_lru_cache() -> None:
            """Do nothing: no rule was asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)


class _Unused(ModuleType):
    """A library of which only names are imported."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.util.spec_from_loader(name, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})
