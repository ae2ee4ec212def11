"""Releases that a launch's own words rule out: those that do not take its arguments yet, or no more.

Which release has which argument, keyword and name is a table (preflight/versions/spans.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from preflight.command import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.libraries.requirement import Clause
from preflight.libraries.script_words import (
    LIBRARIES,
    imported_names,
    keywords_of,
    own_modules,
    parses_only_theirs,
)
from preflight.plan_choices import HF_TRAINERS
from preflight.shell.starters.option_table import older_options
from preflight.shell.starters.program_names import called as program_of
from preflight.shell.starters.program_names import program_name
from preflight.values import NamedTuple
from preflight.versions.boundary import release
from preflight.versions.spans import (
    IMPORTED,
    OF_A_SCRIPT,
    Span,
    Spans,
    classes_of,
    config_of,
    spans_of,
)

ALONE = ("evaluation_strategy", "dispatch_batches")
"""Arguments that no other program has: of transformers' parser, whether a script names that or imports what does."""
SUCCESSORS = {"evaluation_strategy": "eval_strategy"}
"""Argument that a script gives as a keyword too -> its name since: a script that knows both says nothing."""
KEY = lazy_pattern(r"^([a-z_]\w*)[ \t]*:", re.M)
"""A key of a file of arguments."""


class _Said(NamedTuple):
    """One word of a launch that not every release has."""

    span: Span
    words: str
    """`--max_seq_length`, `SFTTrainer(tokenizer=)`, `from trl import GRPOConfig`."""
    line: int = 0
    """Of the script, where it is a call or an import of its own."""
    name: str = ""


def gone_from_trl(method: str) -> dict[str, tuple[str, str]]:
    """Return what the parser of a method of TRL's command line has no more: argument -> library, first release without it."""
    return {
        name: (library, span.until)
        for library in LIBRARIES
        for each in ("TrainingArguments", *OF_A_SCRIPT, config_of(method))
        for name, span in spans_of(library, each).items()
        if span.until
    }


def ruled_out(command: LaunchCommand) -> Iterator[tuple[str, Clause, str]]:
    """Yield library, what its release must be, and the word that says so: the strictest bound from each side.

    Nothing of a library of which no release would do: what runs there is not all that was read.
    """
    launch = _launch(command)
    for library in LIBRARIES:
        said = tuple(_said(library, launch))
        since = max((s for s in said if s.span.since), key=_since, default=None)
        until = min((s for s in said if s.span.until), key=_until, default=None)
        if since is not None and until is not None and _since(since) >= _until(until):
            continue
        if since is not None:
            yield library, Clause(">=", since.span.since), since.words
        if until is not None:
            yield library, Clause("<", until.span.until), until.words
    yield from _of_launcher(command)


def _of_launcher(command: LaunchCommand) -> Iterator[tuple[str, Clause, str]]:
    """Yield what an option in front of the script says of accelerate, whose launcher has it no more."""
    argv, program = command.argv, program_of(command.argv)
    if program is None or not program_name(program.name).startswith("accelerate"):
        return
    ends = (i for i, word in enumerate(argv) if word in ("-m", "--module") or word.endswith(".py"))
    flags = {word.partition("=")[0] for word in argv[: next(ends, len(argv))]}
    gone = [each for each in older_options() if flags & {*each.flags}]
    for each in sorted(gone, key=lambda one: release(one.until))[:1]:
        yield "accelerate", Clause("<", each.until), each.flags[0]


class NotTaken(NamedTuple):
    """A call or an import of the script at which a release stops."""

    words: str
    line: int
    library: str
    version: str
    span: Span
    """The releases that have it."""


def not_taken(command: LaunchCommand, known: Mapping[str, str]) -> Iterator[NotTaken]:
    """Yield what a launch and the script's own calls and imports ask for that its libraries do not have.

    `known` is library -> release. A checkout is between two releases: it surely lacks what left before the earlier.
    """
    launch = _launch(command)
    for library in LIBRARIES:
        version = known.get(library)
        if version is None:
            continue
        flags = _flags(library, launch) if launch.parses_only_theirs else ()
        for said in (*flags, *_of_script(library, launch.text)):
            is_over = bool(said.span.until) and release(said.span.until) < release(version)
            if is_over if ".dev" in version else not said.span.holds_in(version):
                yield NotTaken(said.words, said.line, library, version, said.span)


def _since(said: _Said) -> tuple[int, ...]:
    return release(said.span.since)


def _until(said: _Said) -> tuple[int, ...]:
    return release(said.span.until)


class _Launch(NamedTuple):
    """What a launch says, of whichever library."""

    text: str
    """Of its script."""
    method: str
    """Of TRL's command line: `sft`; empty of any other launch."""
    given: Mapping[str, str]
    """Its arguments, with where those of a file are."""
    parses_only_theirs: bool
    """Whether all that its parser takes is the libraries' own."""
    modules: tuple[str, ...]
    """Texts of its repository's modules that the script imports."""


def _launch(command: LaunchCommand) -> _Launch:
    text, method = _text(command), _method(command)
    modules = tuple(_own_modules(command, text))
    is_theirs = bool(method) or parses_only_theirs(text, modules)
    return _Launch(text, method, dict(_given(command, text)), is_theirs, modules)


def _said(library: str, launch: _Launch) -> Iterator[_Said]:
    """Yield what a launch says of one library: its flags, keywords of calls, and names that its script imports."""
    text, method = launch.text, launch.method
    yield from _flags(library, launch)
    yield from (each for each in _of_script(library, text) if each.name not in SUCCESSORS)
    names = spans_of(library, IMPORTED)
    if method and config_of(method) in names:
        yield _Said(names[config_of(method)], f"trl {method}")


def _flags(library: str, launch: _Launch) -> Iterator[_Said]:
    """Yield the arguments of a launch that not every release of a library has."""
    text, method, given, is_theirs, modules = launch
    flags = _of_flags(library, method, text)
    every = {**_of_flags("transformers", method, text), **flags}
    for name, span in flags.items():
        said = name if name in given else _abbreviation(name, every, given)
        is_own = any(_is_own(each, said or name) for each in (text, *modules))
        if (said is not None and not is_own) or _is_keyword(text, name):
            words = f"--{said}" if given.get(said or "") == "" else given.get(said or "", name)
            # a flag of somebody's own may have the name that a library gave one of its later
            yield _Said(span if is_theirs else span._replace(since=""), words)


def _abbreviation(name: str, flags: Mapping[str, Span], given: Mapping[str, str]) -> str | None:
    """Return the flag that argparse took for an argument which has left: its name, of whose last word the end is missing.

    No argument of a newer release begins so (tests/libraries/test_ruled_out.py), and so none of them takes such a flag.
    """
    words, _, last = name.rpartition("_")
    if not flags[name].until or not words:
        return None
    for word, where in given.items():
        is_short = name.startswith(word) and len(word) >= len(words) + 1 + min(len(last), 3)
        if is_short and not where and not any(f.startswith(word) for f in flags if f != name):
            return word
    return None


def _of_script(library: str, text: str) -> Iterator[_Said]:
    """Yield the keywords of calls and the imported names of a script that not every release of a library has."""
    for called, name, line in keywords_of(text):
        taken = _of_call(library, called)
        if name in taken:
            yield _Said(taken[name], f"{called}({name}=)", line, name)
    names = spans_of(library, IMPORTED)
    for module, name, line in sorted(imported_names(text)):
        if module == library and name in names:
            yield _Said(names[name], f"from {library} import {name}", line, name)


def _of_call(library: str, called: str) -> Spans:
    """Return what a class takes as keywords in some releases alone; TRL's arguments stand on transformers'."""
    is_trls = called in classes_of("trl") and called.endswith("Config")
    return spans_of(
        library, "TrainingArguments" if library == "transformers" and is_trls else called
    )


def _of_flags(library: str, method: str, text: str) -> dict[str, Span]:
    """Return what the classes of a launch's parser take in some releases alone; of several trainers' what each of them does."""
    known = classes_of(library) if library in HF_TRAINERS else frozenset()
    classes = {
        name
        for name in known
        if not name.endswith("Trainer") and name in text and re.search(rf"\b{name}\b", text)
    }
    if method:
        classes = {config_of(method), *OF_A_SCRIPT} & known
    if library == "transformers":
        is_trls = bool(method) or "TrlParser" in text or "SFTConfig" in text
        ours = dict(spans_of(library, "TrainingArguments"))
        return ours if classes or is_trls else {name: ours[name] for name in ALONE}
    beside, trainers = classes & {*OF_A_SCRIPT}, sorted(classes - {*OF_A_SCRIPT})
    found = {
        name: span for each in sorted(beside) for name, span in spans_of(library, each).items()
    }
    tables = [spans_of(library, each) for each in trainers]
    for name in set.intersection(*map(set, tables)) if tables else ():
        found[name] = _widest([table[name] for table in tables])
    return found


def _widest(spans: Sequence[Span]) -> Span:
    """Return the releases in which one of several classes has something."""
    since, until = ([span.since for span in spans], [span.until for span in spans])
    return Span(
        min(since, key=release) if all(since) else "", max(until, key=release) if all(until) else ""
    )


def _method(command: LaunchCommand) -> str:
    """Return the method of TRL's command line that a launch runs: `sft`; empty of any other launch."""
    words = [word.rpartition("/")[2].partition(".")[0] for word in command.argv]
    return next((word for word in _after(command.argv, words) if config_of(word)), "")


def _after(argv: tuple[str, ...], words: list[str]) -> Iterator[str]:
    """Yield what may be the method of TRL's command line: `sft` of `trl sft` and of `-m trl.scripts.sft`."""
    for before, word, whole in zip(words, words[1:], argv[1:], strict=False):
        if before == "trl":
            yield word
        if whole.startswith("trl.scripts."):
            yield whole.rpartition(".")[2]


def _given(command: LaunchCommand, text: str) -> Iterator[tuple[str, str]]:
    """Yield the arguments of a launch: those of a file with where they are, then flags with nothing."""
    words = command.argv
    for flag, path in pairwise(words):
        if flag == "--config" and ("Trl" in text or "trl" in words) and command.exists(path):
            keys = KEY.finditer(command.readable_text(path))
            yield from ((key[1], f"{path}: {key[1]}") for key in keys)
    for word in words:
        if word.startswith("--"):
            yield word[2:].partition("=")[0].replace("-", "_"), ""


def _text(command: LaunchCommand) -> str:
    script = command.named_script()
    return "" if script is None else command.readable_text(script)


def _folders_above(path: str) -> list[str]:
    folders = []
    while path and (path := os.path.dirname(path)) not in folders:
        folders.append(path)
    return folders


def _own_modules(command: LaunchCommand, text: str) -> Iterator[str]:
    """Yield the texts of modules that a script imports and that lie beside it, or in a folder above."""
    folders = _folders_above(command.named_script() or "")
    for module in sorted(own_modules(text)):
        for folder in folders:
            path = os.path.join(folder, *module.split(".")) + ".py"
            if command.exists(path):
                yield command.readable_text(path)
                break


def _is_own(text: str, name: str) -> bool:
    """Tell whether a script defines an argument of that name itself."""
    if name not in text and name.replace("_", "-") not in text:
        return False
    spelled = name.replace("_", "[-_]")
    return re.search(rf"""["'](?:--)?{spelled}["']|^[ \t]+{name}[ \t]*:""", text, re.M) is not None


def _is_keyword(text: str, name: str) -> bool:
    """Tell whether a script gives its TrainingArguments the argument, and knows of no other name for it."""
    return (
        name in SUCCESSORS
        and name in text
        and re.search(rf"^[^#\n]*\b{name}[ \t]*=[^=]", text, re.M) is not None
        and re.search(rf"\b{SUCCESSORS[name]}\b", text) is None
    )
