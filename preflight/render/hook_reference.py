"""The hook reference, made from the hook specifications: `python -m preflight.render.hook_reference`."""

from __future__ import annotations

from preflight import hookspecs
from preflight.plugins import BUILTIN_HOOKS, FIRST_WORDS
from preflight.values import dataclass

HEAD = """\
# Hooks

One file per fact about the outside world; the first word of its name is the hook that it implements.
This page is made from `preflight/hookspecs.py`: `python -m preflight.render.hook_reference > hooks/README.md`.

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

To add a built-in: one file here, and its line in `BUILTIN_HOOKS` of `preflight/plugins.py` (a test names the missing line).
"""


@dataclass(frozen=True)
class HookReference:
    """One hook as a person reads it."""

    name: str
    signature: str
    about: str
    is_first_result: bool


def hooks_in_order() -> list[HookReference]:
    """Return every declared hook, in call order."""
    import inspect

    found = []
    for name in hookspecs.declared_hook_names():
        function = getattr(hookspecs, name)
        found.append(
            HookReference(
                name,
                str(inspect.signature(function)).replace("'", ""),
                " ".join((inspect.getdoc(function) or "").split()),
                bool(function.preflight_spec["firstresult"]),
            )
        )
    return found


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


if __name__ == "__main__":
    print(hook_reference(), end="")
