"""Devices: stated, from the table, and from a driver (a real program on PATH that prints what nvidia-smi prints)."""

from __future__ import annotations

import stat

import pytest

from preflight.devices.gpu_table import find_gpus, gpu_table, one_gpu
from preflight.errors import BadInput
from preflight.launch import LaunchPlan, Origin
from preflight.plugins import load_plugins
from preflight.units import GIB, MIB

DEVICE_HOOKS = ("device_driver", "device_table", "device_given")
H100 = "NVIDIA H100 80GB HBM3, 81559, 81000, 9.0, Disabled, 551, GPU-{}"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Give every test an empty PATH (but for the shell) and no visible-device choice."""
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def install(machine, program: str, script: str) -> None:
    path = machine / program
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def prints(machine, *lines: str, listing: str = "") -> None:
    """Install an nvidia-smi that answers a query with these lines and -L with a listing."""
    rows = "\n".join(lines)
    install(
        machine,
        "nvidia-smi",
        f"if [ \"$1\" = -L ]; then /bin/cat <<'END'\n{listing}\nEND\n"
        f"else /bin/cat <<'END'\n{rows}\nEND\nfi",
    )


def described(device, **plan):
    hooks = load_plugins(builtins=DEVICE_HOOKS)
    return hooks.first("preflight_describe_device", plan=LaunchPlan(device=device, **plan))


def refusal(device):
    origins = {"device": Origin("--device")}
    with pytest.raises(BadInput) as caught:
        described(device, origins=origins)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("given", "capacity", "key", "capability"),
    [
        ("h100:80", 80 * GIB, "h100-sxm-80", (9, 0)),
        ("a100:40", 40 * GIB, "a100-sxm-40", (8, 0)),
        ("a100:80GiB", 80 * GIB, "a100-sxm-80", (8, 0)),
        ("h100:20", 20 * GIB, None, (9, 0)),
        ("tiny:0.05", int(0.05 * GIB), None, None),
        ("my card: 24", 24 * GIB, None, None),
    ],
)
def test_a_stated_size_is_taken_exactly(given, capacity, key, capability):
    device = described(given)

    assert device.capacity_bytes == capacity
    assert device.key == key
    assert device.compute_capability == capability
    assert not device.is_assumed


@pytest.mark.parametrize(
    "given", ["h100:", ":80", "h100:eighty", "h100:-1", "h100:0", "x:nan", "x:inf"]
)
def test_a_stated_size_that_is_no_size_is_refused(given):
    problem = refusal(given)

    assert problem.message == f"a device with a size is NAME:GIB, not {given!r}"
    assert problem.where == "--device"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("h100-sxm-80", "h100-sxm-80"),
        ("h100", "h100-sxm-80"),
        ("a100_80gb", "a100-pcie-80"),
        ("A100-SXM4-80GB", "a100-sxm-80"),
        ("NVIDIA A100-SXM4-40GB", "a100-sxm-40"),
        ("nvidia_h100_80gb_hbm3", "h100-sxm-80"),
        ("rtx 4090", "rtx4090-24"),
        ("mi300x", "mi300x-192"),
        ("3g.40gb", None),
    ],
)
def test_a_card_is_found_by_key_driver_name_or_gres_type(name, key):
    if key is None:
        refusal(name)
        return
    device = described(name)

    assert device.key == key
    assert device.source.startswith("the GPU table")


def test_a_name_of_several_sizes_lists_their_keys():
    problem = refusal("a100")

    assert problem.message == (
        "'a100' may be several devices: a100-sxm-80, a100-sxm-40, a100-pcie-40"
    )


def test_an_unknown_name_gets_a_suggestion_and_the_other_form():
    problem = refusal("h1000")

    assert "did you mean h100-sxm-80" in problem.fix
    assert "`h1000:GIB`" in problem.fix


def test_a_card_whose_memory_nobody_said_asks_for_it():
    problem = refusal("gb300")

    assert "`gb300:GIB`" in problem.fix


def test_the_table_is_whole():
    table = gpu_table()

    assert len(table) == 81
    assert len({entry.key for entry in table}) == 81
    for entry in table:
        assert find_gpus(entry.key) == (entry,)
        assert one_gpu((entry,)) is entry
        if entry.torch_total_gib is not None:
            assert entry.torch_total_source
            assert 0.9 * entry.marketing_gb / 1.074 < entry.torch_total_gib <= entry.marketing_gb
        if entry.torch_total_gib is not None and entry.driver_total_mib is not None:
            assert entry.torch_total_gib * 1024 <= entry.driver_total_mib + 10


def test_without_a_driver_no_device_is_known_and_auto_is_refused():
    assert described(None) is None
    assert "there is none that shows a device" in refusal("auto").message


def test_the_driver_is_asked_when_nobody_names_a_device(machine):
    prints(machine, *(H100.format(i) for i in range(8)))
    device = described(None)

    assert device.capacity_bytes == (81559 - 551) * MIB
    assert device.free_bytes == 81000 * MIB
    assert (device.key, device.count, device.is_assumed) == ("h100-sxm-80", 8, True)
    assert not described("auto").is_assumed


def test_the_smallest_card_decides(machine):
    a100 = "NVIDIA A100-SXM4-40GB, 40960, 40000, 8.0, Disabled, 500, GPU-a"
    prints(machine, H100.format(0), a100)
    device = described("auto")

    assert device.key == "a100-sxm-40"
    assert device.count == 2


@pytest.mark.parametrize(
    ("chosen", "count"),
    [("0,2", 2), ("GPU-3", 1), ("1,9,0", 1), ("", 0), ("-1", 0), ("NoDevFiles", 0), ("0, 1", 2)],
)
def test_only_visible_cards_count(machine, monkeypatch, chosen, count):
    prints(machine, *(H100.format(i) for i in range(4)))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    device = described(None)

    assert (device.count if device else 0) == count


def test_a_driver_without_the_reserve_field_is_asked_again(machine):
    install(
        machine,
        "nvidia-smi",
        'case "$1" in *memory.reserved*) echo "Field not valid"; exit 2;; esac\n'
        'echo "NVIDIA H100 80GB HBM3, 81559, 81000, 9.0, Disabled"',
    )
    device = described("auto")

    assert device.capacity_bytes == int(79.10 * GIB)
    assert "reserve in the GPU table" in device.source


def test_a_card_with_another_total_keeps_the_tables_reserve(machine):
    """An A40 without ECC has 49140 MiB, with it 46068: the reserve is the same."""
    prints(machine, "NVIDIA A40, 49140, 49000, 8.6, [N/A]")
    device = described("auto")

    assert device.key == "a40-48"
    assert device.capacity_bytes == 49140 * MIB - (46068 * MIB - int(44.34 * GIB))


def test_a_card_nobody_knows_loses_the_largest_reserve(machine):
    prints(machine, "NVIDIA Next, 100000, 90000, 11.0, Disabled")
    device = described("auto")

    assert device.capacity_bytes == (100000 - 870) * MIB
    assert (device.key, device.supports_bf16, device.supports_fp8) == (None, True, True)


def test_shared_memory_takes_the_tables_size(machine):
    prints(machine, "NVIDIA GB10, [N/A], [N/A], 12.1, [N/A]")

    assert described("auto").capacity_bytes == int(119.18 * GIB)


def test_a_size_that_nobody_knows_is_asked_for(machine):
    prints(machine, "NVIDIA Next, [N/A], [N/A], 12.1, [N/A]")

    assert described(None) is None
    assert "does not say how much memory NVIDIA Next has" in refusal("auto").message


LISTING = """GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-a)
  MIG 3g.40gb     Device  0: (UUID: MIG-1)
  MIG 1g.10gb     Device  1: (UUID: MIG-2)"""


@pytest.mark.parametrize(
    ("chosen", "key", "count"),
    [(None, "mig-a100-80-1g.10gb", 2), ("MIG-1", "mig-a100-80-3g.40gb", 1)],
)
def test_a_sliced_card_counts_as_its_slices(machine, monkeypatch, chosen, key, count):
    prints(machine, "NVIDIA A100-SXM4-80GB, 81920, 80000, 8.0, Enabled", listing=LISTING)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    device = described("auto")

    assert (device.key, device.count) == (key, count)


@pytest.mark.parametrize(
    "script", ["exit 9", "echo 'No devices were found'", "/bin/sleep 20", "printf '\\377\\376'"]
)
def test_a_driver_that_fails_or_hangs_is_no_driver(machine, monkeypatch, script):
    from preflight.devices import driver

    monkeypatch.setattr(driver, "DRIVER_TIMEOUT_S", 0.2)
    install(machine, "nvidia-smi", script)

    assert described(None) is None


def test_an_amd_driver_is_asked_where_there_is_no_other(machine, monkeypatch):
    card = (
        '{"VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "300000000", '
        '"Card Series": "AMD Instinct MI300X"}'
    )
    install(machine, "rocm-smi", f'echo \'{{"card0": {card}, "card1": {card}, "system": {{}}}}\'')
    device = described("auto")

    assert (device.key, device.count, device.vendor) == ("mi300x-192", 2, "AMD")
    assert device.capacity_bytes == 206141652992

    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")

    assert described("auto").count == 1
