"""docs/remedies.md says what the manual pages say, and where tests have seen each remedy written."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from test_every_remedy import CHANGES_TRAINING, LAUNCHES
from test_framework_remedies import LAUNCHES as OF_FRAMEWORKS

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.remedy import SAFETIES, UNPROVED

PAGE = Path(__file__).parents[2] / "docs" / "remedies.md"
UPDATE = "pytest tests/docs/test_remedies_page.py --update-expected"
HEAD = f"""\
# Remedies

What preflight can change in a launch so that it fits, in the order in which they are asked.
This page is generated from the remedies themselves (`{UPDATE}`); `preflight explain ID` prints one entry.

- `same`: the same values, bit by bit.
- `equivalent`: the same training, rounded elsewhere or summed in another order.
- `changes_training`: another loss curve; suggested, and applied only with `--allow ID`.

The first two are applied unasked once a real training has proved them ([remedies-proof.md](remedies-proof.md)); until then they need `--allow ID` too.
Nobody claims a saving: every plan is estimated again, and the fastest that fits is taken.
One whose step takes more than one and a half times as long is not started unasked where something cheaper fits: that is suggested beside it, and `--allow ID` starts it all the same.

What only the training script's own text says is told as an edit of it, `train.py:31: gradient_checkpointing=True`.
`preflight fix` writes it into a copy of the script in `.preflight/` where nothing but the literals changes; not where the script looks at where it lies (`__file__`), or imports a file beside it.
What needs host memory is tried where nothing else fits, not even tightly, because no launch says how much there is.

"Written under" lists the launchers under which a test has a rewrite read again and give the edited plan; elsewhere a remedy is said, and not written.
"""
LABELS = {"tune": "torchtune"}


def where_written() -> dict[str, set[str]]:
    """Return remedy -> launchers and frameworks, from what the tests of the writers expect."""
    found: dict[str, set[str]] = {}
    for name, (line, ids) in LAUNCHES.items():
        launcher = line.split()[0]
        label = name if name in ("torchtitan",) else LABELS.get(launcher, launcher)
        for id in ids | CHANGES_TRAINING.get(name, set()):
            found.setdefault(id, set()).add(label)
    found["chunked_loss"] = {
        "torchrun"
    }  # test_a_loss_in_pieces_is_written_where_liger_is_installed
    for (framework, _), ids in OF_FRAMEWORKS.items():
        for id in ids:
            found.setdefault(id, set()).add(framework)
    return found


def entries() -> dict[str, tuple[str, dict[str, str]]]:
    """Return remedy -> first sentence, and label -> text, from the docstrings of the built-ins."""
    pages = {}
    for name in BUILTIN_HOOKS:
        if not name.startswith("remedy_"):
            continue
        text = importlib.import_module(f"preflight.hooks.{name}").__doc__ or ""
        first, _, rest = text.partition("\n\n")
        parts: dict[str, str] = {}
        label = ""
        for line in rest.strip().splitlines():
            head = re.match(r"(Saves|Costs|Safety|Written as) +(.*)", line)
            if head:
                label, line = head.group(1), head.group(2)
            elif not line.startswith(" "):
                label = "But"
            parts[label] = f"{parts.get(label, '')} {line.strip()}".strip()
        summary = " ".join(first.split()).partition(": ")[2]
        pages[name.removeprefix("remedy_")] = (summary, parts)
    return pages


def page() -> str:
    pages, written = entries(), where_written()
    lines = [HEAD, "| remedy | class | applied | written under |", "|---|---|---|---|"]
    for id, (_, parts) in pages.items():
        kind = re.match("|".join(SAFETIES), parts["Safety"])
        assert kind is not None, id
        unasked = kind.group() != "changes_training" and id not in UNPROVED
        lines.append(
            f"| [{id}](#{id}) | {kind.group()} | {'unasked' if unasked else '`--allow`'}"
            f" | {', '.join(sorted(written.get(id, set()))) or 'nowhere yet'} |"
        )
    for id, (summary, parts) in pages.items():
        lines += ["", f"### {id}", "", summary[0].upper() + summary[1:], ""]
        lines += [f"- {label}: {text}" for label, text in parts.items()]
    return "\n".join(lines) + "\n"


def test_the_page_is_up_to_date(request):
    if request.config.getoption("--update-expected"):
        PAGE.write_text(page())

    assert PAGE.read_text() == page(), UPDATE


def test_every_remedy_has_a_whole_manual_page():
    for id, (summary, parts) in entries().items():
        assert summary, id
        assert {"Saves", "Costs", "Safety", "Written as"} <= set(parts), id
