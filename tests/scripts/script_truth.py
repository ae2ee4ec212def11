"""Runs scripts on the CPU, each in a folder of its own and on as many ranks as it is launched with, and writes down what they
do: `python script_truth.py FOLDER...` leaves `truth.json` in each. All forks of one process, which imports once."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

SECONDS = 60
"""After which a script that hangs is given up."""


def _record(truth: dict[str, Any]) -> None:
    """Have forwards of models and steps of optimizers noted."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook
    from transformers import PreTrainedModel

    call, depth = torch.nn.Module.__call__, [0]

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        if type(self).__name__ == "LlamaMLP" and not depth[0]:
            truth["again"] += 1  # outside of a forward: layers are made again for backward
        if not isinstance(self, PreTrainedModel):
            return call(self, *args, **kwargs)
        if not depth[0] and torch.is_grad_enabled():
            truth["forwards"].append([*kwargs["input_ids"].shape])
        depth[0] += 1
        try:
            return call(self, *args, **kwargs)
        finally:
            depth[0] -= 1
            ranks = [p.shape[0] for name, p in self.named_parameters() if ".lora_A" in name]
            truth["rank"] = max(ranks, default=0)
            truth["num_layers"] = self.config.num_hidden_layers

    def stepped(optimizer: Any, *_: Any) -> None:
        truth["optimizer"] = type(optimizer).__name__

    torch.nn.Module.__call__ = spy  # type: ignore[method-assign]
    register_optimizer_step_post_hook(stepped)


def _run(folder: Path, rank: int, num_ranks: int, port: int) -> None:
    words = json.loads((folder / "words.json").read_text())
    os.chdir(folder)
    if num_ranks > 1:  # as torchrun has it
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": num_ranks, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in ranks.items()}, MASTER_ADDR="127.0.0.1")  # fmt: skip
    truth: dict[str, Any] = {"forwards": [], "again": 0}
    _record(truth)
    sys.argv = ["train.py", *words]
    try:
        runpy.run_path("train.py", run_name="__main__")
    except SystemExit as end:
        truth["error"] = end.code
    except BaseException:
        truth["error"] = traceback.format_exc()
    if rank == 0:
        Path("truth.json").write_text(json.dumps(truth))


def main(folders: list[Path]) -> None:
    """Run the scripts of some folders, one after the other."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    from transformers import Trainer  # noqa: F401
    from transformers.models.llama import modeling_llama  # noqa: F401

    for folder in folders:
        num_ranks = int((folder / "ranks").read_text())
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        children = []
        for rank in range(num_ranks):
            child = os.fork()
            if not child:
                signal.alarm(SECONDS)
                _run(folder, rank, num_ranks, port)
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
