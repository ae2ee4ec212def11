"""The Rewrite of a filled draft: changed files as copies below .preflight/, and everything that names them pointing there."""

from __future__ import annotations

import os
from collections.abc import Iterable

from preflight.formats import argv_edits
from preflight.formats.edits import CannotEdit
from preflight.rewrite import FOLDER, Rewrite, RewrittenFile
from preflight.writers.draft import LaunchDraft

POINTER_FLAGS_OF_LAUNCHER = ("config_file", "deepspeed_config_file", "accelerate_config")
POINTER_FLAGS_OF_SCRIPT = (
    "config",
    "deepspeed",
    "deepspeed_config",
    "fsdp_config",
    "accelerator_config",
)
POINTER_KEYS = {
    "accelerate": ("deepspeed_config.deepspeed_config_file",),
    "trainer": ("deepspeed", "fsdp_config", "accelerator_config", "accelerate_config"),
}
"""What names another file of the launch, by the role of the file that names it."""


def finish(draft: LaunchDraft) -> Rewrite:
    """Return the rewrite: changed files as copies, and everything that names them pointing there."""
    while True:
        new_paths = _new_paths(draft)
        files = tuple(
            RewrittenFile(path, new_paths[path], draft.document(path).text, after)
            for path, after in _spliced(draft).items()
        )
        # An earlier rewrite may still be read by a launch that runs: its copies stay as they are.
        clashes = {file.new_path for file in files if is_other(draft, file)}
        if not clashes:
            return Rewrite(_new_argv(draft), files, dict(draft.env), _argv_diff(draft))
        draft.taken |= clashes


def is_other(draft: LaunchDraft, file: RewrittenFile) -> bool:
    """Tell whether something else stands where a copy would go."""
    is_there = draft.command.exists(file.new_path)
    return is_there and draft.command.readable_text(file.new_path) != file.after


def _new_paths(draft: LaunchDraft) -> dict[str, str]:
    """Choose where the copies go and point everything to them; a file that names a copy is copied too."""
    new_paths: dict[str, str] = {}
    last = [path for path in (draft.role("trainer"), draft.role("accelerate")) if path]
    pending = [path for path in draft.edits if path not in last]
    pending += [path for path in last if path in draft.edits]
    while pending:
        path = pending.pop(0)
        new_paths[path] = new_path(draft, path, new_paths.values())
        for holder in _point_to(draft, path, new_paths[path]):
            if holder not in new_paths and holder not in pending:
                pending.append(holder)
    return new_paths


def new_path(draft: LaunchDraft, path: str, taken: Iterable[str]) -> str:
    """Return where the copy of a file goes: below .preflight/, under its own name or with a number."""
    stem, extension = os.path.splitext(os.path.basename(path))
    number = 1
    while True:
        name = f"{stem}{extension}" if number == 1 else f"{stem}-{number}{extension}"
        new = draft.command.resolve(os.path.join(FOLDER, name))
        free = new not in taken and new not in draft.taken
        if free and new != draft.command.resolve(path):
            return new
        number += 1


def _point_to(draft: LaunchDraft, path: str, new_path: str) -> list[str]:
    """Make everything that names `path` name the copy; return the files that had to be edited for it."""
    spelled = os.path.join(FOLDER, os.path.basename(new_path))
    if os.path.isabs(path):
        spelled = draft.command.inside(new_path) or new_path
    holders: list[str] = []
    is_named = False
    for found in (
        *draft.launcher_flags(*POINTER_FLAGS_OF_LAUNCHER),
        *draft.script_flags(*POINTER_FLAGS_OF_SCRIPT),
    ):
        if found.value is not None and _names(draft, found.flag, found.value, path):
            draft.replace(found, argv_edits.with_values(found, [spelled]))
            is_named = True
    for index in _words_of_file(draft, path):
        flag, equals, _ = draft.argv[index].rpartition("=")
        draft.words[index] = [f"{flag}{equals}{spelled}"]
        draft.touched.append((index, index + 1))
        is_named = True
    for role, keys in POINTER_KEYS.items():
        holder = draft.role(role)
        if holder is None or holder == path:
            continue
        for key in keys:
            value = draft.document(holder).get(key)
            if not isinstance(value, str) or not _names(draft, key, value, path):
                continue
            is_named = True
            if role == "accelerate" and draft.part.is_default_config:
                # A flag beats the default config, which then needs no copy.
                draft.pointer_flags[key.rpartition(".")[2]] = spelled
            else:
                draft.edit(holder, key, spelled)
                holders.append(holder)
    if not is_named:
        raise CannotEdit(f"nothing in the launch names {path}")
    return holders


def _words_of_file(draft: LaunchDraft, path: str) -> list[int]:
    """Return where the words are that give the script its argument file, if `path` is it."""
    if path != draft.role("trainer"):
        return []
    if draft.part.file_index is not None:
        return [draft.part.file_index]
    words = draft.argv[draft.script_index + 1 :] if draft.reads_only_a_file else ()
    return [
        index
        for index, word in enumerate(words, draft.script_index + 1)
        if word.rpartition("=")[2] == path
    ]


def _names(draft: LaunchDraft, key: str, value: str, path: str) -> bool:
    """Tell whether a flag's or a key's value names a file; TRL's own accelerate configs have names for paths."""
    if draft.command.resolve(value) == draft.command.resolve(path):
        return True
    is_profile = key.lstrip("-").replace("-", "_") == "accelerate_config"
    profile = draft.part.profile
    return is_profile and value == profile and path == draft.role("accelerate")


def _spliced(draft: LaunchDraft) -> dict[str, str]:
    from preflight.formats.json_edits import splice_json
    from preflight.formats.yaml_edits import splice_yaml

    spliced = {}
    for path, edits in draft.edits.items():
        document = draft.document(path)
        splice = splice_json if document.kind == "json" else splice_yaml
        spliced[path] = splice(document.text, edits)
    return spliced


def _new_argv(draft: LaunchDraft) -> tuple[str, ...]:
    insert_at = draft.script_index
    while insert_at > draft.first_option and draft.argv[insert_at - 1] in (
        "--",
        "-m",
        "--module",
    ):
        insert_at -= 1
    ends_at = len(draft.argv)
    if "--" in draft.argv[draft.script_index :]:
        ends_at = draft.argv.index("--", draft.script_index)
    result: list[str] = []
    for index, words in enumerate([*draft.words, []]):
        if index == insert_at and not draft.options_are_mixed:
            result += [word for added in _added_to_launcher(draft) for word in added]
        if index == ends_at:
            launcher = _added_to_launcher(draft) if draft.options_are_mixed else []
            result += [word for added in (*launcher, *draft.script_additions) for word in added]
        result += words
    return tuple(result)


def _added_to_launcher(draft: LaunchDraft) -> list[list[str]]:
    pointers = [[draft.added_spelling(name, 0), path] for name, path in draft.pointer_flags.items()]
    return [*pointers, *draft.launcher_additions]


def _argv_diff(draft: LaunchDraft) -> tuple[tuple[str, str], ...]:
    changed = [
        (
            argv_edits.shown(draft.argv[start:stop]),
            argv_edits.shown(word for group in draft.words[start:stop] for word in group),
        )
        for start, stop in sorted(draft.touched)
    ]
    added = [
        ("", argv_edits.shown(words))
        for words in (*_added_to_launcher(draft), *draft.script_additions)
    ]
    return (*changed, *added)
