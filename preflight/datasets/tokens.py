"""How many tokens a text or a conversation becomes, by the model's own tokenizer."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.files import wrong_kind

PARTS = {
    "image": "images",
    "image_url": "images",
    "audio": "audio",
    "input_audio": "audio",
    "video": "videos",
}
"""Type of a message's part -> what it holds."""


class Tokenizer:
    """A tokenizer of transformers, loaded from a folder when it is first asked."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.seen: set[str] = set()
        """Images, audio and videos met in messages: they are not counted."""
        self._loaded: Any = None

    def _tokenizer(self) -> Any:
        if self._loaded is not None:
            return self._loaded
        if not os.path.isdir(self.folder):
            raise BadInput.of(
                f"--tokenizer {self.folder}",
                "is not a folder: tokenizers are read from disk, never fetched",
                "give the folder that holds tokenizer.json or tokenizer_config.json",
            )
        for name in sorted(os.listdir(self.folder)):
            wrong = wrong_kind(os.path.join(self.folder, name))
            if wrong not in ("", "is a folder"):  # transformers would wait for a pipe
                raise BadInput.one(f"{name} {wrong}", f"--tokenizer {self.folder}")
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise BadInput.of(
                f"--tokenizer {self.folder}",
                "needs transformers to be used, which is not installed here",
                "pip install transformers, or give a column of lengths",
            ) from error
        try:
            self._loaded = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        # Broken files end in anything: the tokenizers library raises a bare Exception.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise BadInput.of(
                f"--tokenizer {self.folder}",
                f"holds no tokenizer that transformers can load: {reason}",
            ) from error
        return self._loaded

    def lengths(self, kind: str, values: list[Any]) -> list[int]:
        """Return the tokens of texts, or of conversations, as TRL counts them."""
        if kind == "text":
            return self._texts(values)
        return [self._chat(*value) for value in values]

    def _texts(self, texts: list[str]) -> list[int]:
        """Count texts with the end token that TRL adds where it is missing."""
        tokenizer = self._tokenizer()
        if not texts:
            return []
        end = tokenizer.eos_token or ""
        ended = [text if text.endswith(end) else text + end for text in texts]
        # verbose=False: no warning that a text is longer than the model; that is what we look for.
        coded = tokenizer(
            ended, verbose=False, return_attention_mask=False, return_token_type_ids=False
        )
        return [len(ids) for ids in coded["input_ids"]]

    def _chat(self, messages: list[Any], tools: Any, where: str) -> int:
        tokenizer = self._tokenizer()
        try:
            if isinstance(tools, str):
                tools = json.loads(tools)
            said = [self._message(message) for message in messages]
            ids = tokenizer.apply_chat_template(
                said, tools=tools or None, tokenize=True, return_dict=False, verbose=False
            )
        # A template is a program of somebody else's, and may raise whatever it likes.
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise BadInput.one(
                f"the chat template cannot be applied: {reason}",
                where,
                f"does {self.folder} have the chat template that the model is trained with?",
            ) from error
        return len(ids)

    def _message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Return a message in the names that templates read; note what is no text."""
        kept = {key: value for key, value in message.items() if value is not None}
        if "from" in kept and "role" not in kept:
            kept = {"role": kept["from"], "content": kept.get("value", "")}
        content = kept.get("content")
        if isinstance(content, list):
            for part in content:
                kind = PARTS.get(str(part.get("type"))) if isinstance(part, Mapping) else None
                if kind is not None:
                    self.seen.add(f"{kind} (in messages)")
        return kept
