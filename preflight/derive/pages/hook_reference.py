"""hooks/README.md: what a hook is, and every hook in call order, made from the hook specifications."""

from __future__ import annotations

from preflight.builtin_hooks import BUILTIN_HOOKS, FIRST_WORDS
from preflight.derive.target import Files, Say
from preflight.render.hook_reference import hooks_in_order

HEAD = """\
# Hooks

One file per fact about the outside world; the first word of its name is the hook that it implements.
This page is made from `preflight/hookspecs.py`: `python -m preflight.derive hooks`.

A hook takes values and returns values.
`None` (or nothing) means "not mine"; an exception means "mine, and wrong".
A plugin takes only the arguments that it reads, and never imports another hook.

```python
from preflight.hookspecs import hookimpl
from preflight.memory import ALWAYS, MemoryTerm


@hookimpl
def preflight_memory_terms(plan, model):
    if plan.trainer == "ours":
        yield MemoryTerm(
            name="replay buffer",
            num_bytes=64 * 2**20,
            moments=ALWAYS,
            formula="64 MiB",
            source="ours/replay.py:41",
        )
```

Put it in `preflight_hooks.py` in the folder that the launch starts from, or in a package with an entry point:

```toml
[project.entry-points.preflight]
ours = "ours.preflight_plugin"
```

Built-ins register first, then entry points, then the project's file; the last registered is asked first.
A misspelt hook, a failing plugin and a second memory term of the same name are errors that name the plugin.
`preflight hooks` shows who is asked, `PREFLIGHT_TRACE=1` every call and its answer.

To add a built-in: one file here, and its line in `BUILTIN_HOOKS` of `preflight/builtin_hooks.py` (a test names the missing line).
A launcher is a folder in `preflight/launchers/` and such a line, `read_NAME`: `read_launch.py` holds a plugin for each.
"""


def hook_reference() -> str:
    """Return the text of hooks/README.md."""
    parts = [HEAD, "## In call order\n"]
    for hook in hooks_in_order():
        answer = "The first answer wins." if hook.is_first_result else "Every plugin is asked."
        parts.append(f"### `{hook.name}`\n\n`{hook.signature}`\n\n{hook.about}\n{answer}\n")
        words = [word for word, hooks in FIRST_WORDS.items() if hook.name in hooks]
        builtins = [n for n in BUILTIN_HOOKS if n.partition("_")[0] in words]
        if builtins:
            listed = ", ".join(f"`{name}`" for name in reversed(builtins))
            parts.append(f"Built-ins, first asked first: {listed}.\n")
    return "\n".join(parts)


def files(say: Say) -> Files:
    """Yield the page."""
    yield "hooks/README.md", hook_reference()
