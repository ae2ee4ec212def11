"""The keys that axolotl's schema knows, and the options of its command, from the shipped table."""

from __future__ import annotations

from functools import partial

from preflight.launchers.framework_keys import FrameworkKeys
from preflight.near_names import nearest_fix
from preflight.own_tables import table_beside
from preflight.values import NamedTuple

axolotl_table = partial(table_beside, __file__, "keys.json")
"""Gives version, keys, plugin_keys by integration, fsdp_keys, optimizers, and the command's own words."""


class Option(NamedTuple):
    """One option of `axolotl train`."""

    key: str
    """The config's key, dotted below a section."""
    takes_value: bool
    says_false: bool
    """True for the `--no-` form of a switch."""


def option_of(word: str) -> Option | None:
    """Return the option that a word names; None for one that the command hands to the launcher."""
    if not word.startswith("--"):
        return None
    name = word[2:].replace("-", "_")
    found = _option(name)
    if found is not None:
        return Option(name, found, False)
    bare = name.removeprefix("no_")
    return Option(bare, False, True) if bare != name and _option(bare) is False else None


def _option(name: str) -> bool | None:
    """Tell whether an option takes a value; None where there is no such option."""
    table = axolotl_table()
    section, dot, _ = name.partition(".")
    if dot:
        return name not in table["cli_switches"] if section in table["cli_sections"] else None
    entry = table["keys"].get(name) or table["cli_arguments"].get(name)
    if entry is None or name in table["cli_sections"]:
        return None
    return not (entry[0] == "bool" or name in table["cli_switches"])


def listed_plugins(keys: FrameworkKeys) -> tuple[str, ...]:
    """Return the plugins that the config loads."""
    listed = keys.value("plugins", [])
    return tuple(str(name) for name in listed) if isinstance(listed, list) else ()


def note_unknown_keys(keys: FrameworkKeys) -> None:
    """Say which keys the schema drops without a word; plugins that are not axolotl's own may know more."""
    table = axolotl_table()
    known = {*table["keys"], *table["cli_arguments"]}
    owners: dict[str, str] = {}
    plugins = listed_plugins(keys)
    for integration, own in table["plugin_keys"].items():
        is_listed = any(name.startswith(f"axolotl.integrations.{integration}.") for name in plugins)
        for key in own:
            if is_listed:
                known.add(key)
            else:
                owners.setdefault(key, integration)
    if any(not name.startswith("axolotl.integrations.") for name in plugins):
        return
    fsdp = set(table["fsdp_keys"])
    for name, setting in keys.given.items():
        if name in known or "." in name:
            continue
        short = name.removeprefix("fsdp_")
        if name in owners:
            if setting.value not in (None, False):
                keys.note(
                    "PF140",
                    f"axolotl ignores {name}: its plugin is not in plugins",
                    setting,
                    f"list the plugin of axolotl.integrations.{owners[name]} in plugins",
                )
        elif short in fsdp:
            keys.note(
                "PF140",
                f"axolotl ignores {name} at the top level",
                setting,
                f"put it below fsdp_config, as {short}",
            )
        else:
            near = nearest_fix(name, tuple(known))
            keys.note("PF140", f"axolotl has no key {name!r}: it is ignored", setting, near)
