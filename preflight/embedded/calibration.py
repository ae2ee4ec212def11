"""The small trainings of `preflight calibrate`: each in processes of its own, because a context is made once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from preflight.values import dataclass


@dataclass(frozen=True)
class Trial:
    """One training: the size of a Llama with random weights, its batch, and how many ranks."""

    num_ranks: int
    hidden_size: int
    num_layers: int
    micro_batch_size: int
    seq_len: int
    vocab_size: int = 32_000


SIZES = (
    (1024, 4, 2, 1024),
    (1024, 8, 4, 1024),
    (2048, 4, 1, 2048),
    (2048, 8, 2, 1024),
    (1536, 6, 4, 2048),
)
"""Hidden size, layers, micro batch, length: 0.5 to 5 GiB of states and activations in fp32 with AdamW."""


def matrix(num_gpus: int) -> Iterator[Trial]:
    """Yield the trainings of a machine: as many on one GPU as a correction takes, and on two where there are two."""
    for num_ranks in (1, 2)[: min(2, num_gpus)]:
        for hidden, layers, micro, length in SIZES:
            yield Trial(num_ranks, hidden, layers, micro, length)


def rehearsal() -> Iterator[Trial]:
    """Yield one tiny training, which shows on a CPU that everything is there."""
    yield Trial(1, 64, 2, 2, 32, 256)


def train(trial: Trial) -> None:
    """Train two steps under `measure`: the second has everything that any later one has."""
    import os

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from preflight.embedded.loop import measure

    on_cuda = torch.cuda.is_available()
    place = torch.device("cuda" if on_cuda else "cpu", int(os.environ.get("LOCAL_RANK", "0")))
    if on_cuda:
        torch.cuda.set_device(place)
    if trial.num_ranks > 1:
        torch.distributed.init_process_group("nccl" if on_cuda else "gloo")
    config = LlamaConfig(
        hidden_size=trial.hidden_size,
        intermediate_size=4 * trial.hidden_size,
        num_hidden_layers=trial.num_layers,
        num_attention_heads=max(1, trial.hidden_size // 64),
        vocab_size=trial.vocab_size,
        max_position_embeddings=trial.seq_len,
    )
    plain: Any = LlamaForCausalLM(config)
    plain = plain.to(place) if on_cuda else plain
    model: Any = plain
    if trial.num_ranks > 1:
        model = torch.nn.parallel.DistributedDataParallel(plain)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    with measure(model, optimizer=optimizer):
        for _ in range(2):
            ids = torch.zeros(
                trial.micro_batch_size, trial.seq_len, dtype=torch.long, device=plain.device
            )
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    if trial.num_ranks > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    train(Trial(**json.loads(sys.argv[1])))
