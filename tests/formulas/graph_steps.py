"""Trace steps of torchtitan's graph trainer as one rank of many, walk over the graphs that run, and print the most that each has alive.

Run beside a checkout of torchtitan that has its graph trainer, in an environment with what that needs (spmd_types, grain, tyro,
triton), with torch's CPU build:
    PYTHONPATH=CHECKOUT:ROOT/tests/formulas python ROOT/tests/formulas/graph_steps.py NAME ... >> graph_steps.jsonl
The other ranks are a backend that answers with fakes. Attention's kernels are left as nodes, which the passes that need a GPU compile.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from importlib import import_module
from typing import Any

from graph_cases import case_of


def model_of(case: dict[str, Any], config: Any, dims: Any) -> Any:
    """Return a rank's part of the model, its weights fake but for their number."""
    import torch

    config.model_spec.model.layers = config.model_spec.model.layers[: case["layers"]]
    config.model_spec.model.update_from_config(config=config)
    with torch.device("meta"):
        model = config.model_spec.model.build()
    model = config.model_spec.parallelize_fn(
        model, parallel_dims=dims, training=config.training, parallelism=config.parallelism,
        compile_config=config.compile, ac_config=config.activation_checkpoint, dump_folder="",
    )  # fmt: skip
    model.to_empty(device="cpu")  # never written to, so that no page of it is there
    if model.enable_weight_tying:  # as Decoder.init_states does
        model.tok_embeddings.weight = model.lm_head._parameters["weight"]
    return model


def config_of(case: dict[str, Any]) -> Any:
    """Return the config function's result with what a case says over it."""
    registry = import_module(f"torchtitan.experiments.graph_trainer.{case['family']}")
    configs = import_module(f"{registry.__name__}.config_registry")
    config = getattr(configs, f"graph_trainer_{case['family']}_debugmodel")()
    base = import_module(f"torchtitan.models.{case['family']}").model_registry(case["flavor"])
    spec = registry.model_registry(case["flavor"])
    values = {each.name: getattr(base.model, each.name) for each in fields(base.model)}
    spec.model = type(spec.model)(**values)
    config.model_spec = spec
    config.loss.loss_fn.global_vocab_size = base.model.vocab_size
    config.training.num_tokens_per_microbatch_per_dp_rank = case["rows"] * case["length"]
    config.training.max_context_length = case["length"]
    config.compile.memory_policy = case["policy"]
    parallel = config.parallelism
    parallel.data_parallel_shard_degree = case["shard"]
    parallel.data_parallel_replicate_degree = case["replicate"]
    parallel.tensor_parallel_degree = case["tensor"]
    parallel.expert_parallel_degree = case["experts"]
    parallel.fsdp_reshard_after_forward = case["reshard"]
    return config


def traced(case: dict[str, Any]) -> tuple[Any, Any, int]:
    """Return the trace of a case, its graph after the passes, and the bytes of the rank's parameters."""
    import torch
    import torch.nn.attention.flex_attention as flex
    import torchtitan.tools.utils as tools

    tools.device_type = "cpu"  # it takes CUDA for granted where it finds no device
    flex._validate_device = lambda *tensors: None  # whose kernel for a CPU has no backward
    from torch._inductor import utils
    from torch.utils import _runtime_estimation

    for module in (utils, _runtime_estimation):  # asked of the driver, to order what is sent
        module.get_gpu_dram_gbps = lambda *any_: 3350.0
        module.get_device_tflops = lambda *any_: 900.0
    from torch.testing._internal.distributed import fake_pg  # noqa: F401
    from torchtitan.distributed import ParallelDims
    from torchtitan.distributed.utils import set_spmd_backend
    from torchtitan.experiments.graph_trainer import common_utils, make_fx_tracer, passes, trainer

    ranks = case["shard"] * case["replicate"] * case["tensor"]
    torch.distributed.init_process_group("fake", rank=0, world_size=ranks)
    config = config_of(case)
    dims = ParallelDims(
        dp_shard=case["shard"], dp_replicate=case["replicate"], tp=case["tensor"], cp=1, pp=1, ep=case["experts"],
        world_size=ranks, spmd_backend=config.parallelism.spmd_backend,
    )  # fmt: skip
    dims.build_mesh()
    set_spmd_backend(config.parallelism.spmd_backend)
    model = model_of(case, config, dims)
    loss = config.loss.build(compile_config=config.compile)
    loss.set_lm_head(model.lm_head)
    model._skip_lm_head = True
    tokens = case["rows"] * case["length"]
    ids = torch.zeros(tokens, dtype=torch.long)
    positions = torch.arange(tokens, dtype=torch.int32) % case["length"]
    more = {
        "positions": positions,
        "attention_masks": model.get_attention_masks(positions=positions),
    }
    common_utils.maybe_register_blockmask_pytree_node()
    parallel_loss = torch.distributed.tensor.parallel.loss_parallel
    with parallel_loss() if case["tensor"] > 1 else nullcontext():
        step = trainer.make_fwd_bwd_step(model, loss)
        trace = make_fx_tracer.minimal_fx_tracer(step, module=model)(ids, ids, 1.0, more)
    chosen = passes.compile_time_passes(trace, config, parallel_dims=dims, include_inductor=False)
    graph = passes.apply_graph_passes(trace.gm, trace.example_inputs, chosen)
    held = sum(p.to_local().untyped_storage().nbytes() for p in model.parameters())
    torch.distributed.destroy_process_group()
    return trace, graph, held


def splits_of(case: dict[str, Any]) -> Iterator[int]:
    """Yield what a rank asks the host for, layer by layer: how many rows it sends to each, and how many each sends to it."""
    rows = (
        case["rows"]
        * case["length"]
        // case["tensor"]
        * case["sizes"].get("num_experts_per_tok", 0)
    )
    ranks = case["experts"]
    sends = [rows, *[0] * (ranks - 1)] if case["to_one"] else [rows // ranks] * ranks
    gets = [rows if case["to_one"] else rows // ranks] * ranks
    while True:
        yield from sends
        yield from gets


def most_alive(trace: Any, graph: Any, splits: Iterator[int]) -> int:
    """Return the most bytes of storages that are alive while a graph's nodes run in order, its inputs apart."""
    import torch
    from torch.fx.node import map_arg
    from torch.utils._pytree import tree_leaves

    def storages(value: Any) -> dict[int, Any]:
        tensors = (leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))
        return {s._cdata: s for s in (tensor.untyped_storage() for tensor in tensors)}

    nodes = list(graph.graph.nodes)
    last = {given: node for node in nodes for given in node.all_input_nodes}
    dying: dict[Any, list[Any]] = {}
    for given, node in last.items():
        dying.setdefault(node, []).append(given)
    inputs = iter(trace.example_inputs)
    fake = next(t.fake_mode for t in trace.example_inputs if isinstance(t, torch.Tensor))
    values: dict[Any, Any] = {}
    users: dict[int, int] = {}
    kept: dict[int, Any] = {}
    given_storages: dict[int, Any] = {}
    now = most = 0
    with fake, torch.no_grad():
        for node in nodes:
            if node.op == "output":
                break
            if node.op in ("placeholder", "get_attr"):
                value = next(inputs) if node.op == "placeholder" else getattr(graph, node.target)
                given_storages.update(storages(value))
                values[node] = value
                continue
            args, named = (map_arg(part, values.__getitem__) for part in (node.args, node.kwargs))
            is_asked = node.target is torch.ops.aten._local_scalar_dense.default
            values[node] = next(splits) if is_asked else node.target(*args, **named)
            for key, storage in storages(values[node]).items():
                if key not in given_storages and key not in users:
                    users[key], kept[key] = 0, storage
                    now += storage.nbytes()
                if key in users:
                    users[key] += 1
            most = max(most, now)
            for gone in (*dying.get(node, ()), *(() if node in last else (node,))):
                for key in storages(values.pop(gone)):
                    if key in users:
                        users[key] -= 1
                    if users.get(key) == 0:
                        now -= kept.pop(key).nbytes()
                        del users[key]
    return most


def main() -> None:
    """Print a row for each case that is named."""
    for name in sys.argv[1:]:
        case = case_of(name)
        trace, graph, held = traced(case)
        most = most_alive(trace, graph, splits_of(case))
        print(json.dumps({"name": name, "parameters": held, "graph": most}))


if __name__ == "__main__":
    main()
