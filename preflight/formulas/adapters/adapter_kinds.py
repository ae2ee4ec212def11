"""Adapters that are no two matrices beside a layer: what each kind of PEFT's trains, keeps and makes in passing.

adapter_kinds.json has it by linear layer, as sums of inputs, outputs, tokens and the kind's own size that were solved
from PEFT's real modules (preflight/derive/costs/adapter_kinds.py). A kind is called as its config is: OFTConfig's is `oft`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from preflight.own_tables import table_beside
from preflight.plan_parts import Adapter
from preflight.values import replace
from preflight.versions.boundary import release

BRANCHES = frozenset({"lora", "dora"})
"""Kinds that are two matrices of the adapter's rank beside a layer."""
_FEEDFORWARD, _DROPPING = "(feedforward)", "(dropout)"
Mode = tuple[str, str, bool]
"""Dtype of the layer, dtype of the adapter, and whether autocast is on."""
KIND = "adapter_kind"
"""Argument that no library has: what a plan calls the adapter that a script makes."""
ELSEWHERE = ("exclude_modules", "layers_to_transform", "layers_pattern", "target_parameters")
"""Options that put an adapter on less than every module of a name, or on more."""
PER_TOKEN = "T*"


_table = partial(table_beside, __file__, "adapter_kinds.json")


@lru_cache(maxsize=1)
def configs() -> Mapping[str, str]:
    """Return the config classes of kinds that are known, with what a plan calls each."""
    return {name: kind_of_config(name) for name in _table()["kinds"] if "(" not in name}


def kind_of_config(name: str) -> str:
    """Return what a plan calls the adapter of a config class."""
    return name.removesuffix("Config").lower()


@lru_cache(maxsize=1)
def _by_kind() -> Mapping[str, Any]:
    """Return the rows by kind, with what is behind the name of one: `(dropout)`."""
    parts = {name: name.partition("(") for name in _table()["kinds"]}
    return {
        kind_of_config(parts[name][0]) + "".join(parts[name][1:]): row
        for name, row in _table()["kinds"].items()
    }


def is_priced(adapter: Adapter, mode: Mode, release_of_peft: str | None) -> bool:
    """Tell whether an adapter of such a kind and size is known in some dtypes and a release of PEFT."""
    row = _by_kind().get(adapter.kind + _DROPPING * (adapter.dropout > 0))
    if row is None or _key(mode) not in row["modes"]:
        return False
    is_size = row["any_size"] or row["size"] is None or adapter.rank == row["default"]
    # what was read in one of a minor release's patches holds for all
    is_there = not release_of_peft or release(release_of_peft)[:2] >= release(row["since"])[:2]
    return is_size and is_there


def branch_rank(adapter: Adapter) -> int:
    """Return the rank of the two matrices beside a layer; 0 of a kind that has none."""
    return adapter.rank if adapter.kind in BRANCHES else 0


def default_targets(kind: str, model_type: str) -> tuple[str, ...] | None:
    """Return the modules that PEFT puts a kind on by itself, where those are others than LoRA's."""
    found = _table()["targets"].get(kind, {}).get(model_type)
    return None if found is None else tuple(found)


def _row_on(adapter: Adapter, module: str) -> Mapping[str, Any]:
    """Return an adapter's row on one module: IA3 scales the inputs of some, and the outputs of others."""
    rows, kind = _by_kind(), adapter.kind
    is_fed = any(name.rpartition(".")[2] == module for name in _table()["feedforward"])
    of_module = rows.get(kind + _FEEDFORWARD) if is_fed else None
    dropping = rows.get(kind + _DROPPING) if adapter.dropout > 0 else None
    found: Mapping[str, Any] = of_module or dropping or rows.get(kind) or rows["lora"]
    return found


def _key(mode: Mode) -> str:
    base, own = ("bf16" if one == "fp16" else one for one in mode[:2])
    return f"{base}, {own}" + ", autocast" * mode[2]


def keeps_input(adapter: Adapter, module: str, mode: Mode) -> bool:
    """Tell whether a kind keeps what its layer is given, as it is given."""
    return bool(_mode(adapter, module, mode).get("keeps_input"))


def num_parameters(adapter: Adapter, module: str, outputs: int, inputs: int) -> int:
    """Return what a kind trains on one layer."""
    row = _row_on(adapter, module)
    return _sum(row["parameters"], sizes_of(adapter, outputs, inputs, 0))


def buffer_bytes(adapter: Adapter, module: str, outputs: int, inputs: int) -> tuple[int, int]:
    """Return the bytes that a kind has on one layer and does not train, and those that all layers have together."""
    row, sizes = _row_on(adapter, module), sizes_of(adapter, outputs, inputs, 0)
    return _sum(row["buffers"], sizes), _sum(row["shared_buffers"], sizes)


def kept_per_token(adapter: Adapter, module: str, outputs: int, inputs: int, mode: Mode) -> int:
    """Return what a kind keeps of every token on one layer, beside what it is given."""
    kept = _mode(adapter, module, mode)["kept"]
    return _sum(_of_tokens(kept, True), sizes_of(adapter, outputs, inputs, 1))


def kept_once(adapter: Adapter, module: str, outputs: int, inputs: int, mode: Mode) -> int:
    """Return what a kind keeps on one layer whatever the tokens, beyond what LoRA does: a weight that it merged."""
    own, usual = (
        _sum(_of_tokens(_mode(one, module, mode)["kept"], False), sizes)
        for one, sizes in _and_lora(adapter, outputs, inputs, 0)
    )
    return max(0, own - usual)


def passing_bytes(
    adapter: Adapter, module: str, outputs: int, inputs: int, tokens: int, mode: Mode
) -> tuple[int, int]:
    """Return the most that one layer's forward and backward hold beside what is kept, beyond what LoRA's do."""
    found = []
    for part in ("forward", "backward"):
        own, usual = (
            max(_sum(form, sizes) for form in forms[part]) - _sum(forms["kept"], sizes)
            for one, sizes in _and_lora(adapter, outputs, inputs, tokens)
            for forms in [_mode(one, module, mode)]
        )
        found.append(max(0, own - usual))
    return found[0], found[1]


def _and_lora(
    adapter: Adapter, outputs: int, inputs: int, tokens: int
) -> Iterator[tuple[Adapter, dict[str, int]]]:
    """Yield an adapter, and LoRA without a rank, each with its sizes: traces are taken so for other kinds."""
    for one in (adapter, replace(adapter, kind="lora", rank=0, dropout=0.0)):
        yield one, sizes_of(one, outputs, inputs, tokens)


def sizes_of(adapter: Adapter, outputs: int, inputs: int, tokens: int) -> dict[str, int]:
    """Return the sizes that sums are of."""
    widths = {"i": inputs, "o": outputs, "s": adapter.rank, "1": 1}
    pairs = {"i*o": inputs * outputs, "i*i": inputs**2, "o*o": outputs**2, "C": 1}
    sized = {"s*s": adapter.rank**2, "s*i": adapter.rank * inputs, "s*o": adapter.rank * outputs}
    return {**widths, **pairs, **sized, **{f"T*{n}": tokens * size for n, size in widths.items()}}


def _mode(adapter: Adapter, module: str, mode: Mode) -> Mapping[str, Any]:
    found: Mapping[str, Any] = _row_on(adapter, module)["modes"].get(_key(mode), _NOTHING)
    return found


_NOTHING: Mapping[str, Any] = {"kept": {}, "forward": [{}], "backward": [{}]}


def _of_tokens(form: Mapping[str, int], are: bool) -> dict[str, int]:
    return {name: count for name, count in form.items() if name.startswith(PER_TOKEN) == are}


def _sum(form: Mapping[str, float], sizes: Mapping[str, int]) -> int:
    return int(sum(count * sizes.get(name, 0) for name, count in form.items()))


def is_usual(config: str, options: Mapping[str, Any]) -> bool:
    """Tell whether no option of a config changes what its kind takes by itself, but the dropout of one that is known with it."""
    row, dropout = _table()["kinds"][config], dropout_of(config)
    fixed = {name: default for name, default in row["fixed"].items() if name != dropout}
    if any(options[name] not in (fixed[name], {}, []) for name in fixed.keys() & options.keys()):
        return False
    # what is a switch may have a word for a third way
    switches = {name for name, default in row["free"].items() if isinstance(default, bool)}
    if any(not isinstance(options[name], bool) for name in switches & options.keys()):
        return False
    if any(options.get(name) for name in ELSEWHERE):
        return False
    fed = options.get("feedforward_modules")
    return fed is None or (
        isinstance(fed, (list, tuple)) and set(fed) <= {*_table()["feedforward"]}
    )


def dropout_of(config: str) -> str | None:
    """Return the option of a config that drops inputs out, where its kind is known with it too."""
    names = [name for name in _table()["kinds"][config]["fixed"] if name.endswith("dropout")]
    return names[0] if f"{config}{_DROPPING}" in _table()["kinds"] else None


def options_of(kind: str, size: int, targets: tuple[str, ...] | str) -> tuple[str, dict[str, Any]]:
    """Return the config class of a kind, and what it is given beside where the adapter goes."""
    name = next(config for config, each in configs().items() if each == kind)
    keyword, _ = size_of_config(name)
    options: dict[str, Any] = {"total_step": 100} if kind == "adalora" else {}
    if kind == "ia3":
        fed = {one.rpartition(".")[2] for one in _table()["feedforward"]}
        options["feedforward_modules"] = [one for one in targets if one in fed]
    return name, options if keyword is None else {**options, keyword: size}


def size_of_config(config: str) -> tuple[str | None, int]:
    """Return what a config calls the size of its kind, and its default."""
    row = _table()["kinds"][config]
    return row["size"], int(row["default"])
