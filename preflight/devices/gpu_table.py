"""The shipped GPU table: what torch may have of each card, and what the card can do."""

from __future__ import annotations

from functools import lru_cache

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.own_tables import beside, read_table
from preflight.units import GIB
from preflight.values import dataclass

SAME_CAPACITY_SHARE = 0.02
"""Cards that share an alias and differ by less are one answer: the smaller capacity."""


@dataclass(frozen=True)
class GpuEntry:
    """One card of the table."""

    key: str
    vendor: str
    name: str
    device_name: str
    """What the driver and torch call it."""
    arch: str
    compute_capability: tuple[int, int] | None
    marketing_gb: int
    driver_total_mib: int | None
    """`memory.total` of nvidia-smi."""
    torch_total_gib: float | None
    """What torch prints as total capacity; None where nobody has said."""
    torch_total_source: str
    bf16: bool
    fp8: bool
    aliases: tuple[str, ...] = ()
    """Slurm gres types and short names."""
    note: str = ""

    @property
    def capacity_bytes(self) -> int | None:
        return None if self.torch_total_gib is None else int(self.torch_total_gib * GIB)


def device_of(
    entry: GpuEntry,
    capacity_bytes: int,
    source: str,
    *,
    name: str | None = None,
    count: int | None = None,
    free_bytes: int | None = None,
    is_assumed: bool = False,
) -> DeviceSpec:
    """Return the device of an entry, with the capacity that was found or given."""
    return DeviceSpec(
        name=name or entry.name,
        capacity_bytes=capacity_bytes,
        key=entry.key,
        count=count,
        compute_capability=entry.compute_capability,
        supports_bf16=entry.bf16,
        supports_fp8=entry.fp8,
        arch=entry.arch,
        vendor=entry.vendor,
        free_bytes=free_bytes,
        source=source,
        is_assumed=is_assumed,
    )


@lru_cache(maxsize=1)
def gpu_table() -> tuple[GpuEntry, ...]:
    """Return every card, in the order of the file."""
    rows = read_table(beside(__file__, "gpus.json"))
    return tuple(
        GpuEntry(
            **{
                **row,
                "aliases": tuple(row["aliases"]),
                "compute_capability": tuple(row["compute_capability"])
                if row["compute_capability"]
                else None,
            }
        )
        for row in rows
    )


def find_gpus(name: str) -> tuple[GpuEntry, ...]:
    """Return the cards a key, a driver's name or an alias may mean; a key means one."""
    wanted = plain_name(name)
    table = gpu_table()
    exact = tuple(entry for entry in table if plain_name(entry.key) == wanted)
    if exact:
        return exact
    named = tuple(
        entry
        for entry in table
        if wanted in (plain_name(entry.device_name), plain_name(entry.name))
    )
    return named or tuple(
        entry for entry in table if wanted in (plain_name(alias) for alias in entry.aliases)
    )


def one_gpu(candidates: tuple[GpuEntry, ...]) -> GpuEntry | None:
    """Return the card to reckon with, the smallest where sizes are alike; None where they are not.

    A card of unknown capacity (a custom part) yields to one that is known.
    """
    known = sorted(
        (entry for entry in candidates if entry.torch_total_gib is not None),
        key=lambda entry: entry.torch_total_gib or 0,
    )
    if not known:
        return candidates[0] if len(candidates) == 1 else None
    smallest, largest = known[0].torch_total_gib or 0, known[-1].torch_total_gib or 0
    return known[0] if largest - smallest <= SAME_CAPACITY_SHARE * largest else None


def plain_name(name: str) -> str:
    """Return a name without the marks and vendor that people write differently: a100-80, A100_80, NVIDIA A100 80."""
    kept = "".join(letter for letter in name.lower() if letter.isalnum() or letter == ".")
    return kept.removeprefix("nvidia")


def similar_gpus(name: str) -> tuple[str, ...]:
    """Return keys of cards with a similar name."""
    import difflib

    spellings: dict[str, str] = {}
    for entry in gpu_table():
        for spelling in (*entry.aliases, entry.key):
            spellings.setdefault(plain_name(spelling), entry.key)
    near = difflib.get_close_matches(plain_name(name), spellings, n=4, cutoff=0.6)
    return tuple(dict.fromkeys(spellings[key] for key in near))


def card_key(name: str) -> str:
    """Return the key of the card that a name means; raise BadInput where it means none or several."""
    found = find_gpus(name)
    entry = one_gpu(found)
    if entry is not None and entry.capacity_bytes is not None:
        return entry.key
    if found:
        keys = ", ".join(card.key for card in found)
        raise BadInput.one(
            f"{name} may be several cards, or its memory is not known", "--gpu", keys
        )
    near = similar_gpus(name)
    fix = f"did you mean {' or '.join(near)}? " if near else ""
    raise BadInput.one(f"no card is called {name!r}", "--gpu", f"{fix}`preflight gpus` lists all")
