"""The pieces of our pictures: marks, lines and text of an SVG, with colors for light and dark pages."""

from __future__ import annotations

from html import escape

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px; fill: #1f2328 }
.paper { fill: #ffffff } .title { font-size: 18px; font-weight: 600 } .muted { fill: #59636e }
.strong { font-weight: 600 } .end { text-anchor: end } .middle { text-anchor: middle }
.grid { stroke: #e4e8ec } .frame { fill: none; stroke: #8c959f } .band { fill: #e9edf1 }
.exact { stroke: #59636e } .capacity { stroke: #c93c37; stroke-dasharray: 5 4 }
.mark { stroke-width: 1.6 } .died { stroke: #c93c37; stroke-width: 2.4; fill: none }
.died.hollow { stroke-width: 1.3; stroke-opacity: 0.75 }
.allocated { stroke: #0a5fc2; fill: #0a5fc2 } .reserved { stroke: #b35900; fill: #b35900 }
.device { stroke: #6639ba; fill: #6639ba } .mark.hollow { fill: none; stroke-opacity: 0.75 }
.mark.solid { fill-opacity: 0.6 } .label { font-size: 12px; paint-order: stroke; stroke: #ffffff; stroke-width: 3px }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .paper { fill: #0d1117 } .muted { fill: #9198a1 }
.grid { stroke: #21262d } .frame { stroke: #6e7681 } .band { fill: #1c2128 } .exact { stroke: #9198a1 }
.capacity, .died { stroke: #ff7b72 } .allocated { stroke: #58a6ff; fill: #58a6ff }
.reserved { stroke: #f0a04b; fill: #f0a04b } .device { stroke: #bc8cff; fill: #bc8cff }
.label { stroke: #0d1117 }
}
"""


def mark(x: float, y: float, counter: str, is_scored: bool, says: str = "") -> str:
    """Return a run's mark: a shape and a color per counter, filled where it scores."""
    kind = f'class="mark {counter} {"solid" if is_scored else "hollow"}"'
    title = f"<title>{escape(says)}</title>" if says else ""
    if counter == "allocated":
        return f'<circle {kind} cx="{x:.1f}" cy="{y:.1f}" r="4.5">{title}</circle>'
    if counter == "reserved":
        return f'<rect {kind} x="{x - 4.2:.1f}" y="{y - 4.2:.1f}" width="8.4" height="8.4">{title}</rect>'
    return f'<path {kind} d="M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z">{title}</path>'


def cross(x: float, y: float, is_scored: bool, says: str = "") -> str:
    """Return the mark of a run that died, thin where it does not score."""
    title = f"<title>{escape(says)}</title>" if says else ""
    path = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
    kind = "died" if is_scored else "died hollow"
    return f'<path class="{kind}" d="{path}">{title}</path>'


def text(x: float, y: float, words: str, css: str = "") -> str:
    """Return a line of text."""
    kind = f' class="{css}"' if css else ""
    return f'<text{kind} x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """Return a straight line."""
    return f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
