"""Take one step of TRL's trainers with rows of different lengths, whole and in two micro batches, as JSON: how far apart they end.

Usage: split_rows.py FOLDER OBJECTIVE...
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "formulas"))

import objective_steps
import torch

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 600,
    "tie_word_embeddings": False,
}
PLAIN = {"learning_rate": 1e-3, "max_grad_norm": 0.0, "optim": "sgd", "max_steps": 1}


def uneven(num_words: int) -> list[str]:
    return [
        "".join(f" w{random.randrange(500)}" for _ in range(random.randrange(4, num_words)))
        for _ in range(objective_steps.ROWS)
    ]


def moved(objective: str, micro: int, steps: int, folder: Path) -> torch.Tensor:
    """Return by how much one step of four rows moves the parameters."""
    random.seed(0)
    arguments = {"gradient_accumulation_steps": steps, **PLAIN}
    case = {"objective": objective, "load": "fp32", "micro": micro, "length": 32}
    trainer = objective_steps.trainer_of({**case, "config": CONFIG, "arguments": arguments}, folder)
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.train()
    after = trainer.model.parameters()
    return torch.cat([(a.detach() - b).flatten() for a, b in zip(after, before, strict=True)])


def main(folder: Path, objectives: list[str]) -> None:
    objective_steps.answers = uneven
    objective_steps.use_kernel(False)
    distances = {}
    for objective in objectives:
        whole = moved(objective, 4, 1, folder / objective)
        halves = moved(objective, 2, 2, folder / f"{objective}-halves")
        distances[objective] = float((whole - halves).norm() / whole.norm())
    print(json.dumps(distances))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
