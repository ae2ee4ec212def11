"""A rewritten launch while it grows: words of the command line, edits of files, variables; finish.py makes the Rewrite.

Whatever cannot be said raises CannotEdit, and then nothing is written at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats import argv_edits
from preflight.formats.argv_edits import Occurrence
from preflight.formats.document import Document, KeyPath, split_key
from preflight.formats.edits import CannotEdit, yaml_text
from preflight.formats.load import load_json, read_document
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.setting import Place
from preflight.writers.script_copy import ScriptEdit
from preflight.writers.source import LaunchSource


class LaunchDraft:
    """Collects the edits of one launch. Made, filled and finished by the writer of its launch; nobody else sees it."""

    def __init__(
        self,
        plan: LaunchPlan,
        command: LaunchCommand,
        source: LaunchSource,
        tells_script_edits: bool = False,
    ) -> None:
        self.tells_script_edits = tells_script_edits
        """Edits of the training script are told, for a person to make; nothing writes them."""
        self.script_edits: list[ScriptEdit] = []
        self.plan = plan
        """The launch as it is."""
        self.command = command
        self.part = source.part
        self.places = source.places
        self.argv = command.argv
        self.first_option = source.part.first_option
        self.script_index = source.part.script_index
        self.options_are_mixed = self.first_option > self.script_index
        """`trl sft` takes the launcher's options among the script's."""
        self.words: list[list[str]] = [[word] for word in self.argv]
        """For every word of the command the words that take its place."""
        self.touched: list[tuple[int, int]] = []
        self.launcher_additions: list[list[str]] = []
        self.script_additions: list[list[str]] = []
        self.env: dict[str, str] = {}
        self.edits: dict[str, dict[str | KeyPath, Any]] = {}
        """Path as spelled -> key -> new value, in the file's own text form for YAML."""
        self.taken: set[str] = set()
        """Names below .preflight/ that other launches use."""
        self.pointer_flags: dict[str, str] = {}
        """Launcher flags that name a copy in the place of a key of the account's default config."""
        self._documents: dict[str, Document] = {}

    # Reading

    def document(self, path: str) -> Document:
        """Return a file of the launch as it is before the edits."""
        if path not in self._documents:
            kind = "json" if self._is_json(path) else None
            try:
                self._documents[path] = read_document(self.command, path, kind)
            except BadInput as error:
                raise CannotEdit(f"{path} cannot be read") from error
        return self._documents[path]

    def _is_json(self, path: str) -> bool:
        # DeepSpeed's and the trainer's nested configs are JSON whatever they are called.
        return path not in (self.role("accelerate"), self.role("trainer"))

    def role(self, name: str) -> str | None:
        """Return the path of the file with a role (accelerate, deepspeed, trainer)."""
        return self.plan.documents.get(name)

    def launcher_flags(self, *names: str) -> list[Occurrence]:
        """Return where the launcher's options are given."""
        stop = len(self.argv) if self.options_are_mixed else self.script_index
        return argv_edits.find_flag(self.argv, self.first_option, stop, names)

    def script_flags(self, *names: str, takes_many: bool = False) -> list[Occurrence]:
        """Return where the script's flags are given."""
        start, stop = self.script_index + 1, len(self.argv)
        return argv_edits.find_flag(self.argv, start, stop, names, takes_many)

    def flag_at(self, index: int) -> Occurrence:
        """Return the flag at an argv index."""
        stop = self.script_index if index < self.script_index else len(self.argv)
        return argv_edits.occurrence_at(self.argv, index, stop)

    @property
    def reads_only_a_file(self) -> bool:
        """True where the script's parser is given nothing but its argument file."""
        words = list(self.argv[self.script_index + 1 :])
        return self.plan.script_facts.reads_only_a_file or words == [self.role("trainer")]

    # Changing

    def replace(self, occurrence: Occurrence, words: list[str]) -> None:
        """Put other words in the place of a flag and its values."""
        start, stop = occurrence.index, occurrence.index + occurrence.num_words
        if [word for group in self.words[start:stop] for word in group] == words:
            return
        self.words[start] = words
        for index in range(start + 1, stop):
            self.words[index] = []
        if (start, stop) not in self.touched:
            self.touched.append((start, stop))

    def write_flag(self, occurrence: Occurrence, value: Any) -> None:
        """Give a flag another value."""
        if isinstance(value, bool):
            self.replace(occurrence, argv_edits.with_bool(occurrence, value))
        else:
            self.replace(occurrence, argv_edits.with_values(occurrence, flag_texts(value)))

    def add_launcher_flag(self, name: str, value: Any) -> None:
        """Give the launcher an option that it was not given."""
        self.launcher_additions.append([self.added_spelling(name, 0), *flag_texts(value)])

    def add_launcher_switch(self, name: str) -> None:
        """Give the launcher an option that takes no value."""
        self.launcher_additions.append([self.added_spelling(name, 0)])

    def add_script_flag(self, name: str, value: Any) -> None:
        """Give the script a flag that it was not given."""
        spelled = self.added_spelling(name, self.script_index + 1)
        self.script_additions.append([spelled, *flag_texts(value)])

    def add_script_switch(self, name: str) -> None:
        """Give the script a flag that takes no value."""
        self.script_additions.append([self.added_spelling(name, self.script_index + 1)])

    def added_spelling(self, name: str, start: int) -> str:
        """Return a flag that is added as the others from an argv index on are spelled, with dashes or underscores."""
        flags = self.argv[start : self.script_index] if start == 0 else self.argv[start:]
        return argv_edits.spellings(name)[argv_edits.prefers_dashes(flags)]

    @property
    def tells_arguments(self) -> bool:
        """Tell whether the trainer's arguments can be told as edits of the script, which makes them itself."""
        return self.tells_script_edits and self.plan.script_facts.arguments_at is not None

    def edit_script(self, place: Place | None, text: str, role: str = "keyword") -> None:
        """Tell an edit of the training script (ScriptEdit), which only a copy beside its imports could hold."""
        if not self.tells_script_edits or place is None:
            raise CannotEdit("the script itself sets it")
        self.script_edits.append(ScriptEdit(place, text, role))

    def edit(self, path: str, key: str | KeyPath, value: Any) -> None:
        """Set a key of a file to a value, or take it out by REMOVE."""
        document = self.document(path)
        key_path = split_key(key) if isinstance(key, str) else key
        if document.kind == "yaml" and isinstance(value, str):
            value = yaml_text(value)
        self.edits.setdefault(path, {})[key_path] = value

    def inline_json(self, occurrence: Occurrence) -> dict[str, Any]:
        """Return the JSON that a flag holds now, earlier edits included."""
        return load_json(self._inline_text(occurrence), occurrence.flag).value

    def edit_inline_json(self, occurrence: Occurrence, key: str, value: Any) -> None:
        """Set a key of the JSON that a flag holds."""
        from preflight.formats.json_edits import splice_json

        text = splice_json(self._inline_text(occurrence), {key: value})
        self.replace(occurrence, argv_edits.with_values(occurrence, [text]))

    def _inline_text(self, occurrence: Occurrence) -> str:
        start = occurrence.index
        words = [
            word for group in self.words[start : start + occurrence.num_words] for word in group
        ]
        return words[0].partition("=")[2] if occurrence.is_attached else words[1]


def open_draft(plan: LaunchPlan, tells_script_edits: bool = False) -> LaunchDraft | None:
    """Return a draft of the launch; None where no reader of preflight's own read it."""
    if plan.command is None or not isinstance(plan.source, LaunchSource):
        return None
    return LaunchDraft(plan, plan.command, plan.source, tells_script_edits)


def flag_texts(value: Any) -> list[str]:
    """Return a value as the words that a flag takes."""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, Mapping):
        return [json.dumps(value)]
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    return [str(value)]
