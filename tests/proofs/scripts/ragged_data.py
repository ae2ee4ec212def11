"""Rows of different lengths, so that an average of averages is not the average of all tokens."""

from __future__ import annotations

import random

import torch

NUM_ROWS = 96
SHORTEST_SHARE = 4
"""A row has between a quarter of the length and all of it."""


def rows(length: int, seed: int = 0) -> list[list[int]]:
    """Return token ids that follow each other by a rule with noise: there is something to learn."""
    chosen = random.Random(seed)
    made = []
    for _ in range(NUM_ROWS):
        token = chosen.randrange(4, 500)
        row = []
        for _ in range(chosen.randint(length // SHORTEST_SHARE, length)):
            token = 4 + (7 * token + chosen.randrange(3)) % 496
            row.append(token)
        made.append(row)
    return made


class RaggedRows(torch.utils.data.Dataset):
    """Rows padded on the right to one length; padding carries no label."""

    def __init__(self, length: int, seed: int = 0) -> None:
        self.rows, self.length = rows(length, seed), length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.rows[index]
        padding = self.length - len(row)
        return {
            "input_ids": torch.tensor(row + [0] * padding),
            "attention_mask": torch.tensor([1] * len(row) + [0] * padding),
            "labels": torch.tensor(row + [-100] * padding),
        }
