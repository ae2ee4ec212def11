"""`explain`: the manual page of a remedy, a finding, a verdict or a word of the reports."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping

from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines
from preflight.commands.parser import Parser
from preflight.devices.gpu_table import find_gpus
from preflight.errors import BadInput
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_fix
from preflight.render.glossary import glossary, word_of
from preflight.render.page import Page, page_for
from preflight.report import SCHEMA_VERSION
from preflight.search.proved import proof_words

EPILOG = """\
examples:
  preflight explain                            list everything there is a page for
  preflight explain activation_checkpointing   a remedy
  preflight explain PF101                      a finding
  preflight explain tight                      a verdict
  preflight explain oom                        what to do after CUDA out of memory
  preflight explain reading                    a word of the reports
"""

VERDICTS = {
    "fits": "The worst phase of the fullest rank leaves at least the margin (5.5 % of the device,\n"
    "unless a policy says otherwise) at the device level: tensors, allocator, context, NCCL.",
    "tight": "The live tensors and what lies outside torch fit, but with the caching allocator's\n"
    "rounding and fragmentation the margin is gone. It may run and it may die of\n"
    "fragmentation. `run` starts it unless the policy's `refuse` has `tight`.",
    "does_not_fit": "Live tensors and what lies outside torch are more than the device has: no\n"
    "allocator setting can help. `run` starts nothing, or a rewritten launch that fits.",
    "unknown": "Something that decides the answer is not known (the report names it): say it with\n"
    "--set or --device. `run` starts the launch and says so; unknown never means fits.",
}


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Explain a remedy, a finding, a verdict or a word of the reports.",
        "preflight explain [ID]",
        EPILOG,
    )
    parser.add_argument("id", nargs="*", metavar="ID")
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print one page, or the list of pages."""
    options = parser(name).parse_args(args)
    pages = all_pages()
    if not options.id:
        return _list(pages, options.format, options.color)
    wanted = _spelled(" ".join(options.id), pages)
    text = pages[wanted]
    if options.format == "json":
        print_json({"schema_version": SCHEMA_VERSION, "id": wanted, "text": text}, sys.stdout)
        return FITS
    page = page_for(sys.stdout, options.color)
    print_lines([page.paint(wanted, "bold"), *manual_lines(text, page)], sys.stdout)
    return FITS


def all_pages() -> dict[str, str]:
    """Return id -> manual page of every verdict, remedy, finding and word."""
    return {id: page for pages in pages_by_kind().values() for id, page in pages.items()}


def pages_by_kind() -> dict[str, dict[str, str]]:
    """Return the pages, by id, under what they are pages of."""
    return {
        "verdicts": VERDICTS,
        "remedies": remedy_pages(),
        "findings": _finding_pages(),
        "words": {word.name: word.page for word in glossary()},
    }


def remedy_pages() -> dict[str, str]:
    """Return the pages of the remedies."""
    pages = {n.removeprefix("remedy_"): manual for n, manual in _remedy_manuals() if manual}
    return {id: _with_proof(id, manual) for id, manual in pages.items()}


def _with_proof(id: str, manual: str) -> str:
    """Return a remedy's page with what training showed of it, as one more label."""
    words = proof_words(id)
    return f"{manual}\nProved     {words}" if words else manual


def _finding_pages() -> dict[str, str]:
    """Return the pages of the catalogue of findings."""
    from preflight.findings import all_kinds

    return {id: kind.page(id) for id, kind in all_kinds().items()}


def _remedy_manuals() -> list[tuple[str, str]]:
    """Return the module docstring of every built-in remedy: its manual page."""
    import importlib

    from preflight.builtin_hooks import BUILTIN_HOOKS

    names = [name for name in BUILTIN_HOOKS if name.startswith("remedy_")]
    return [
        (name, (importlib.import_module(f"preflight.hooks.{name}").__doc__ or "").strip())
        for name in names
    ]


def _spelled(wanted: str, pages: Mapping[str, str]) -> str:
    plain = wanted.strip().lower().replace("-", "_").replace(" ", "_")
    for candidate in (wanted, wanted.upper(), plain):
        if candidate in pages:
            return candidate
    word = word_of(plain)
    if word is not None:
        return word.name
    raise BadInput.one(f"there is no page for {wanted!r}", fix=_way_on(wanted, plain, pages))


def _way_on(wanted: str, plain: str, pages: Mapping[str, str]) -> str:
    """Return where somebody who asks for a page that is not there finds it."""
    if find_gpus(wanted):
        return f"it is a card: preflight gpus {shlex.quote(wanted)}"
    also = (other for word in glossary() for other in word.also)
    known = tuple(dict.fromkeys((*pages, *also)))
    return (
        nearest_fix(plain, known) or nearest_fix(wanted, known) or "`preflight explain` lists all"
    )


def _list(pages: Mapping[str, str], output_format: str, color: str) -> int:
    firsts = {name: summary_of(name, text) for name, text in pages.items()}
    if output_format == "json":
        print_json({"schema_version": SCHEMA_VERSION, "pages": firsts}, sys.stdout)
        return FITS
    page = page_for(sys.stdout, color)
    lines = [f"preflight: {len(pages)} pages"]
    for kind, of_kind in pages_by_kind().items():
        lines.append(page.paint(f"{kind}:", "bold"))
        lines += index_lines({name: firsts[name] for name in of_kind}, page)
    lines.append("next: `preflight explain ID` prints one")
    print_lines(lines, sys.stdout)
    return FITS


_LABEL = lazy_pattern(r"\s*\S+(?: \S+)?  +(?=\S)")


def manual_lines(text: str, page: Page) -> list[str]:
    """Return a page with its lines broken anew; a label keeps its column, a blank line stays."""
    lines: list[str] = []
    item = ""
    hang = 0

    def finish() -> None:
        nonlocal item, hang
        if item:
            lines.extend(page.wrap(item, "  ", " " * (2 + hang)))
        item, hang = "", 0

    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        label = _LABEL.match(line)
        if not line.strip():
            finish()
            lines.append("")
        elif not item or label or indent < hang:
            finish()
            item, hang = line.rstrip(), len(label.group()) if label else indent
        else:
            item, hang = f"{item} {line.strip()}", max(hang, indent)
    finish()
    return lines


def summary_of(name: str, text: str) -> str:
    """Return the first sentence of a page, without the name that it may start with; of a finding, when it fires."""
    finding = re.match(rf"{re.escape(name)} [\w-]+ \(\w+\)\n\nWhen +(.*)", text)
    if finding is not None:
        return finding[1]
    paragraph = " ".join(text.partition("\n\n")[0].split())
    paragraph = re.sub(rf"^(PF\d{{3}}, )*{re.escape(name)}(, PF\d{{3}})*: ", "", paragraph)
    return re.split(r"(?<! al)\.(?: (?=[A-Z])|$)", paragraph)[0]


def index_lines(pages: dict[str, str], page: Page) -> list[str]:
    """Return a line or two per page: its name and its first sentence."""
    width = max(map(len, pages), default=0)
    if page.width < 2 * width + 12:
        return page.table([[name, summary] for name, summary in pages.items()])
    longest_word = max((len(w) for text in pages.values() for w in text.split()), default=0)
    is_beside = width + 4 + longest_word <= page.width
    lines = []
    for name, summary in pages.items():
        if is_beside:
            lines += page.wrap(summary, f"  {name.ljust(width)}  ", " " * (width + 4))
        else:
            lines += [f"  {name}", *page.wrap(summary, "  ", "  ")]
    return lines
