"""A byte tokenizer and a handful of sentences, built in code: nothing is downloaded."""

from __future__ import annotations

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

WORDS = (
    "the",
    "a",
    "small",
    "cat",
    "dog",
    "sat",
    "ran",
    "jumped",
    "on",
    "under",
    "mat",
    "log",
    "moon",
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte; 260 of the model's 512 ids are used."""
    vocab = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[character] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def sentences(num_sentences: int, num_words: int) -> list[str]:
    """Return random sentences, the same ones every time."""
    chosen = random.Random(0)
    return [" ".join(chosen.choices(WORDS, k=num_words)) for _ in range(num_sentences)]


class ByteBlocks(torch.utils.data.Dataset):
    """Blocks of `length` bytes of the sentences, inputs and labels alike."""

    def __init__(self, num_blocks: int, length: int) -> None:
        self.blocks = []
        for text in sentences(num_blocks, length):
            ids = torch.tensor([4 + byte for byte in text.encode()[:length]])
            self.blocks.append(ids)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = self.blocks[index]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
