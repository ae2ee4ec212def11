"""`hooks`: every hook in call order, and who answers it."""

from __future__ import annotations

import os
import sys

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.commands.options import FITS, add_output_options
from preflight.commands.output import print_json, print_lines, tell_left_alone
from preflight.commands.parser import Parser
from preflight.plugins import load_plugins
from preflight.render.hook_reference import hooks_in_order
from preflight.render.page import page_for
from preflight.report import SCHEMA_VERSION

EPILOG = """\
A plugin is a module with functions marked @hookimpl (from preflight.hookspecs), found through
an entry point of the group `preflight`, or preflight_hooks.py in the folder of the launch.
"""


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name, "Show the hooks, and the plugins that answer them.", "preflight hooks", EPILOG
    )
    add_output_options(parser)
    return parser


def run(name: str, args: list[str]) -> int:
    """Print the hooks with their plugins, in the order in which they are asked."""
    options = parser(name).parse_args(args)
    plugins = load_plugins(os.getcwd())
    tell_left_alone(*plugins.left_alone)
    hooks = [(hook, plugins.plugins_of(hook.name)) for hook in hooks_in_order()]
    if options.format == "json":
        value = {
            "schema_version": SCHEMA_VERSION,
            "hooks": [
                {
                    "name": hook.name,
                    "signature": hook.signature,
                    "about": hook.about,
                    "plugins": names,
                }
                for hook, names in hooks
            ],
            "plugins": [
                {"name": plugin, "builtin": plugin in BUILTIN_HOOKS} for plugin in plugins.names
            ],
        }
        print_json(value, sys.stdout)
        return FITS
    page = page_for(sys.stdout, options.color)
    others = [plugin for plugin in plugins.names if plugin not in BUILTIN_HOOKS]
    lines = [f"preflight: {len(hooks)} hooks, {len(plugins.names)} plugins, {len(others)} not ours"]
    for hook, names in hooks:
        lines += [page.paint(line, "bold") for line in page.wrap(f"{hook.name}{hook.signature}")]
        lines += page.wrap(hook.about, "  ", "  ")
        lines += page.wrap(f"asks: {', '.join(names) or 'nobody'}", "  ", "        ")
    lines += page.wrap("next: nothing; docs and examples are in hooks/README.md")
    print_lines(lines, sys.stdout)
    return FITS
