"""The frame of our HTML pages: one file, no network, light and dark, readable without JavaScript."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from preflight.printable import printable

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --muted: #57606a; --paper: #ffffff; --panel: #f6f8fa;
  --line: #d0d7de; --good: #116329; --warn: #7d4e00; --bad: #a40e26; --added: #dafbe1; --removed: #ffebe9;
  --weights: #0072b2; --gradients: #d55e00; --optimizer_states: #009e73; --activations: #cc79a7;
  --logits: #e69f00; --buffers: #56b4e9; --allocator: #8c959f; --outside_torch: #3d444d }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --muted: #9da7b1; --paper: #0d1117;
  --panel: #161b22; --line: #3d444d; --good: #56d364; --warn: #e3b341; --bad: #ff7b72; --added: #12361f;
  --removed: #4a1519; --allocator: #6e7681; --outside_torch: #c9d1d9 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem 1rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 1.35rem; margin: 0 0 .5rem } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem }
p { margin: .4rem 0 } .muted { color: var(--muted) } .num { text-align: right; font-variant-numeric: tabular-nums }
.fits { color: var(--good) } .tight, .unknown { color: var(--warn) } .does_not_fit { color: var(--bad) }
code, pre { font: .875rem/1.45 ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .7rem; overflow-x: auto }
.command { white-space: pre-wrap; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
th { font-weight: 600; white-space: nowrap } th.num { text-align: right } td.wide { min-width: 14rem; width: 60% }
.bar { position: relative; display: flex; height: 1.35rem; background: var(--panel); border-radius: 3px }
.bar i { display: block; height: 100%; border-right: 1px solid var(--paper) }
.bar b { position: absolute; top: -3px; bottom: -3px; width: 0; border-left: 2px dashed var(--bad) }
.span i { min-width: 4px; border: 0; background: var(--weights) }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: 0; margin: .5rem 0; list-style: none }
.legend i { display: inline-block; width: .85rem; height: .85rem; margin-right: .4rem; border-radius: 2px;
  vertical-align: -1px }
ins, del { display: block; text-decoration: none } ins { background: var(--added) } del { background: var(--removed) }
details { margin: .8rem 0 } summary { cursor: pointer; font-weight: 600 }
summary:focus-visible, input:focus-visible, .scroll:focus-visible { outline: 2px solid var(--weights); outline-offset: 2px }
.sliders { display: none; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: .8rem }
.sliders label { display: grid; grid-template-columns: 11rem 1fr 5rem; gap: .8rem; align-items: center }
.sliders input, .sliders select { width: 100%; font: inherit } .sliders h2 { margin-top: 0 } svg { width: 100%; min-width: 50rem; height: auto } svg text { fill: var(--ink); font-size: 12px }
svg text.over { paint-order: stroke; stroke: var(--paper); stroke-width: 3px }
@media (max-width: 34rem) { td.wide { min-width: 8rem } .phases tr > :nth-child(3) { display: none } .readings th { white-space: normal } .sliders label { grid-template-columns: 1fr 4rem }
  .sliders label span { grid-column: 1 / -1 } .sheet tr > :nth-child(4), .legend:has(+ .scroll > .sheet), .remedies thead { display: none }
  .remedies tr { display: flex; flex-wrap: wrap; gap: 0 .9rem; border-bottom: 1px solid var(--line); padding: .4rem 0 }
  .remedies td { border: 0; padding: 0 } .remedies td:first-child { flex-basis: 100% } .remedies td:nth-child(2) { order: 1; flex-basis: 100% }
  .remedies code { overflow-wrap: anywhere } }
@media print { .sliders { display: none !important } body { max-width: none; padding: 0; font-size: 11pt }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } .scroll { overflow: visible } svg { min-width: 0 }
  pre { white-space: pre-wrap; overflow-wrap: anywhere } h2 { break-after: avoid } tr, .bar, .legend, svg { break-inside: avoid } }
"""

NUMBER = ' class="num"'
WIDE = ' class="wide"'
COLUMN = ' scope="col"'


def page(title: str, body: Iterable[str], script: str = "") -> str:
    """Return a whole document; `body` is HTML, `title` is text."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    document = "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            "<main>",
            *body,
            "</main>",
            f"<script>{script}</script>" if script else "",
            "</body></html>",
            "",
        ]
    )
    return printable(document)


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Iterable[int] = (),
    caption: str = "",
    kind: str = "",
    wide: int | None = None,
) -> list[str]:
    """Return a table whose cells are HTML; columns of `right` hold numbers, `kind` is its class, `wide` the column of bars."""
    rights = set(right)

    def attribute(tag: str, column: int) -> str:
        if column in rights:
            return NUMBER
        return WIDE if tag == "td" and column == wide else ""

    def cells(tag: str, row: Sequence[str], more: str = "") -> str:
        return "".join(
            f"<{tag}{more}{attribute(tag, i)}>{cell}</{tag}>" for i, cell in enumerate(row)
        )

    lines = [
        f'<div class="scroll"><table class="{kind}">' if kind else '<div class="scroll"><table>'
    ]
    if caption:
        lines.append(f"<caption hidden>{escape(caption)}</caption>")
    lines.append(f"<thead><tr>{cells('th', head, COLUMN)}</tr></thead><tbody>")
    lines += [f"<tr>{cells('td', row)}</tr>" for row in rows]
    return [*lines, "</tbody></table></div>"]


def details(summary: str, inside: Iterable[str]) -> list[str]:
    """Return a part that opens on a click; `summary` is text, the rest HTML."""
    return [f"<details><summary>{escape(summary)}</summary>", *inside, "</details>"]
