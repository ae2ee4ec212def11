"""The sliders of a report: places that were estimated one by one, and a script that shows the one asked for."""

from __future__ import annotations

import json
from html import escape

from preflight.buckets import BUCKET_WORDS, BUCKETS
from preflight.render.html_bars import unit_of
from preflight.what_if import WhatIf

AXIS_WORDS = {
    "seq_len": "tokens of a sequence",
    "micro_batch_size": "micro batch of a rank",
    "world_size": "ranks",
}
VERDICT_WORDS = {
    "fits": "fits",
    "tight": "tight",
    "does_not_fit": "does not fit",
    "unknown": "unknown",
}

SCRIPT = """
(function () {
  var data = JSON.parse(document.getElementById("what-if").textContent);
  var box = document.querySelector(".sliders"), bars = document.getElementById("what-if-bars");
  var inputs = Array.from(box.querySelectorAll("input"));
  function text(node, words) { node.textContent = words; return node; }
  function show() {
    var chosen = {};
    inputs.forEach(function (input) {
      var value = data.axes[input.name][Number(input.value)];
      chosen[input.name] = value;
      input.setAttribute("aria-valuetext", String(value));
      input.parentNode.querySelector("output").textContent = value.toLocaleString("en");
    });
    var key = Object.keys(data.axes).map(function (name) {
      return name in chosen ? chosen[name] : data.axes[name][0];
    }).join(",");
    var point = data.points[key], said = document.getElementById("what-if-says");
    bars.textContent = "";
    if (!point) { said.className = "unknown"; text(said, "this plan cannot be"); return; }
    said.className = point.verdict;
    var of = data.capacity ? " of " + (data.capacity / data.unit).toFixed(1) : "";
    text(said, data.words[point.verdict] + ": peak " + (point.device_peak_bytes / data.unit).toFixed(1)
      + of + " " + data.unit_name + " per rank");
    var top = Math.max(data.capacity * 1.02, point.device_peak_bytes);
    Object.keys(point.phases).forEach(function (phase) {
      var sums = point.phases[phase], total = 0, row = document.createElement("tr");
      var bar = document.createElement("div");
      bar.className = "bar";
      sums.forEach(function (size, at) {
        total += size;
        if (!size) return;
        var part = document.createElement("i");
        part.style.width = (100 * size / top) + "%";
        part.style.background = "var(--" + data.buckets[at] + ")";
        part.title = data.bucket_words[at] + ": " + (size / data.unit).toFixed(1) + " " + data.unit_name;
        bar.appendChild(part);
      });
      if (data.capacity) {
        var line = document.createElement("b");
        line.style.left = (100 * data.capacity / top) + "%";
        bar.appendChild(line);
      }
      bar.setAttribute("role", "img");
      bar.setAttribute("aria-label", phase + ": " + (total / data.unit).toFixed(1) + " " + data.unit_name);
      var cell = document.createElement("td");
      cell.className = "wide";
      cell.appendChild(bar);
      row.appendChild(text(document.createElement("td"), phase.replace(/_/g, " ")));
      row.appendChild(cell);
      var number = text(document.createElement("td"), (total / data.unit).toFixed(1));
      number.className = "num";
      row.appendChild(number);
      bars.appendChild(row);
    });
  }
  inputs.forEach(function (input) { input.addEventListener("input", show); });
  box.style.display = "block";
  show();
})();
"""


def sliders(what_if: WhatIf, capacity_bytes: int | None) -> list[str]:
    """Return the sliders with their data; hidden where no script runs."""
    unit, name = unit_of(capacity_bytes)
    data = {
        **what_if.to_dict(),
        "bucket_words": [BUCKET_WORDS[bucket] for bucket in BUCKETS],
        "capacity": capacity_bytes or 0,
        "unit": unit,
        "unit_name": name,
        "words": VERDICT_WORDS,
    }
    lines = ['<section class="sliders"><h2>What if</h2>']
    lines.append(
        "<p>Every place of the sliders was estimated like the launch itself; bars show its phases.</p>"
    )
    for axis, values in what_if.axes.items():
        if len(values) < 2:
            continue
        own = values.index(what_if.own[axis])
        lines.append(
            f"<label><span>{escape(AXIS_WORDS[axis])}</span>"
            f'<input type="range" name="{axis}" min="0" max="{len(values) - 1}" step="1" value="{own}">'
            f"<output>{values[own]:,}</output></label>"
        )
    lines.append('<p id="what-if-says" role="status"></p>')
    lines.append(
        '<div class="scroll"><table><tbody id="what-if-bars"></tbody></table></div></section>'
    )
    # `<` would end the script where a string holds a tag.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return [*lines, f'<script type="application/json" id="what-if">{text}</script>']
