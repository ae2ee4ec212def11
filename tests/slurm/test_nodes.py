"""Which nodes a job may get, and how much memory their GPUs have."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.slurm import inventory
from preflight.slurm.constraints import read_constraint
from preflight.slurm.gpu_memory import cards_of_type, device_words, gpu_memory
from preflight.slurm.hostlist import host_list, host_names
from preflight.slurm.inventory import (
    SINFO_FIELDS,
    Inventory,
    Node,
    NoInventory,
    Partition,
    default_memory,
    gpus_of_node,
    nodes_of_json,
    nodes_of_sinfo,
    nodes_of_text,
    partitions_of_sinfo,
    partitions_of_text,
    read_inventory,
)
from preflight.slurm.nodes import Fit, candidates, fit_of, judge_candidates, site_map
from preflight.slurm.options import GpuCount, submit_options
from preflight.units import GIB
from preflight.verdict import Answer

# Names and constraints


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("gpu-01", ["gpu-01"]),
        ("gpu-[01-03,7],big", ["gpu-01", "gpu-02", "gpu-03", "gpu-7", "big"]),
        ("r[1-2]n[08-10]x", [f"r{r}n{n}x" for r in "12" for n in ("08", "09", "10")]),
        ("", []),
    ],
)
def test_a_list_of_hosts_is_every_name_in_it(text, names):
    assert list(host_names(text)) == names


@pytest.mark.parametrize("text", ["gpu-[1-", "gpu-[a-b]", "gpu-[1-999999999]", "g[1-500][1-500]"])
def test_a_list_that_is_none_or_without_end_is_refused(text):
    with pytest.raises(ValueError, match="host"):
        host_names(text)


@pytest.mark.parametrize("text", ["gpu-[01-03,07]", "a-1,login", "gpu-[08-11]"])
def test_names_are_written_as_slurm_writes_them(text):
    assert host_list(host_names(text)) == text


@pytest.mark.parametrize(
    ("constraint", "features", "admitted"),
    [
        ("a", "a", True),
        ("a&b", "a", False),
        ("a,b", "a b", True),
        ("a|b", "b", True),
        ("(a|b)&c", "b c", True),
        ("(a|b)&c", "b", False),
        ("a&(b|(c&d))", "a c d", True),
        ("[a|b]", "b", True),
        ("[a|b]", "c", False),
        ("gpu_mem:80gb", "gpu_mem:80gb", True),
        ("a*2", "b", True),  # two of the four nodes have it, the others need not
        ("a*4", "b", False),
        ("[a*2&b*2]", "b", True),
        ("[a*2&b*2]", "c", False),
        ("[a*1&b*2]", "c", True),
        ("[(a&b)*2&c*2]", "a", False),
        ("[(a&b)*2&c*2]", "a b", True),
    ],
)
def test_a_constraint_admits_the_nodes_that_slurm_may_give(constraint, features, admitted):
    assert read_constraint(constraint).admits(features.split(), num_nodes=4) is admitted


@pytest.mark.parametrize("text", ["", "a&", "(a|b", "a)b", "&a", "*2", "a b"])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(ValueError, match="constraint"):
        read_constraint(text)


# Memory of GPUs


@pytest.mark.parametrize(
    ("type_", "features", "low", "high"),
    [
        ("h100", "", "h100-sxm-80", "h100-nvl-94"),
        ("h100", "hopper gpu_mem:80gb", "h100-sxm-80", "h100-sxm-80"),
        ("a100", "", "a100-sxm-40", "a100-sxm-80"),
        ("a100", "gpu_mem:40gb", "a100-sxm-40", "a100-pcie-40"),
        ("a100", "A100-80GB", "a100-pcie-80", "a100-sxm-80"),
        ("a100", "gpu80", "a100-pcie-80", "a100-sxm-80"),
        ("v100", "volta32gb", "v100-sxm-32", "v100-pcie-32"),
        ("tesla_v100-sxm2-32gb", "", "v100-sxm-32", "v100-sxm-32"),
        ("nvidia_h100_80gb_hbm3", "", "h100-sxm-80", "h100-sxm-80"),
        ("a100-sxm4", "", "a100-sxm-40", "a100-sxm-80"),
        ("nvidia_a100_3g.20gb", "ampere mig", "mig-a100-40-3g.20gb", "mig-a100-40-3g.20gb"),
        ("rtx_6000", "", "rtx6000-24", "rtxpro6000-96"),
        ("", "a100", "a100-sxm-40", "a100-sxm-80"),
        # Gigabytes of the host, or of a network
        ("a100", "192g ram512g ib100g", "a100-sxm-40", "a100-sxm-80"),
    ],
)
def test_the_memory_of_a_gpu_is_a_range_where_words_leave_it_open(type_, features, low, high):
    memory = gpu_memory(type_, features.split())

    assert memory is not None
    assert (memory.low.key, memory.high.key) == (low, high)


@pytest.mark.parametrize(
    ("type_", "features", "low_gib", "high_gib"),
    [
        ("", "gpu_mem:24gb", 21.9, 23.6),  # A10 to RTX 3090
        ("a100", "gpu_mem:64gb", 61, 64),  # a part made for one site
        ("h200_1g.18gb", "", 16, 18),  # a slice that the table lacks
        ("gh200", "", 94, 144),
    ],
)
def test_a_size_that_the_table_lacks_is_between_what_others_of_it_leave(
    type_, features, low_gib, high_gib
):
    memory = gpu_memory(type_, features.split())

    assert memory is not None
    assert low_gib * GIB <= memory.low.capacity_bytes < memory.high.capacity_bytes <= high_gib * GIB
    if cards_of_type(type_):
        assert memory.low.compute_capability == cards_of_type(type_)[0].compute_capability


@pytest.mark.parametrize(("type_", "features"), [("frobnicator", ""), ("", "192g"), ("", "")])
def test_a_gpu_of_which_nobody_says_anything_has_no_memory(type_, features):
    assert gpu_memory(type_, features.split()) is None


def test_a_feature_of_a_node_with_two_types_counts_for_the_card_that_it_fits():
    v100 = gpu_memory("v100", ["gpu_mem:32gb"], is_only_type=False)
    l40s = gpu_memory("l40s", ["gpu_mem:32gb"], is_only_type=False)

    assert v100 is not None and v100.low.key == "v100-sxm-32"
    assert l40s is not None and l40s.low.key == "l40s-48"


def test_the_map_of_a_site_is_over_everything_and_says_where(tmp_path):
    path = tmp_path / "preflight-site.yaml"
    path.write_text(
        "gpu_memory:\n  a100: a100-sxm-40\n  odd: 23.5\nfeature_memory:\n  big: h100-nvl-94\n"
    )
    site = site_map({"SLURM_CONF": str(tmp_path / "slurm.conf")})
    a100, odd, big = (
        gpu_memory("a100", ["gpu_mem:80gb"], site),
        gpu_memory("odd", [], site),
        gpu_memory("odd", ["big"], site),
    )

    assert a100 is not None and device_words(a100.high) == "a100-sxm-40"
    assert odd is not None and device_words(odd.low) == "odd:23.5000"
    assert odd.origin == f"{path}:3"
    assert big is not None and big.low.key == "h100-nvl-94"


def test_every_mistake_in_the_map_of_a_site_is_told_with_its_line(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("gpu_memory:\n  a100: a100\n  h100: -3\nfeature: {}\n")

    with pytest.raises(BadInput) as refused:
        site_map({"PREFLIGHT_SITE": str(path)})

    assert [problem.where for problem in refused.value.problems] == [
        f"{path}:2",
        f"{path}:3",
        f"{path}:4",
    ]


# What Slurm says


def test_gpus_of_a_node_are_counted_by_type_whatever_else_it_has():
    gres = "gpu:H100:4(S:0),gpu:H100:4(S:1),gpu:v100:2,nvme:1,shard:8"

    assert gpus_of_node(gres) == (GpuCount("h100", 8), GpuCount("v100", 2))


def test_json_of_old_parsers_has_texts_in_place_of_lists():
    text = (
        '{"nodes": [{"name": "n1", "partitions": ["p"], "gres": "gpu:a100:4", "features": "x,y",'
        ' "active_features": "y", "real_memory": 1000, "cpus": 8, "state": "idle"}]}'
    )

    assert nodes_of_json(text) == (
        Node("n1", ("p",), (GpuCount("a100", 4),), ("y",), 1000 << 20, 8, "idle"),
    )


@pytest.mark.parametrize("text", ["", "slurm_load_node error", "[]", '{"nodes": 3}'])
def test_what_is_no_list_of_nodes_is_none(text):
    assert nodes_of_json(text) == nodes_of_text(text) == nodes_of_sinfo(text) == ()


def test_every_way_to_list_the_nodes_says_the_same(cluster):
    of_json = nodes_of_json(cluster.output("scontrol", "--all", "show", "node", "--json"))
    of_text = nodes_of_text(cluster.output("scontrol", "--all", "-o", "show", "node"))
    lines = cluster.output("sinfo", "-a", "-h", "-N", "-o", SINFO_FIELDS)
    of_sinfo = nodes_of_sinfo(lines)

    def told(nodes):
        return {
            n.name: (set(n.partitions), n.gpus, n.features, n.memory_bytes, n.num_cpus)
            for n in nodes
        }

    assert told(of_json) == told(of_text) == told(of_sinfo)
    partitions = partitions_of_text(cluster.output("scontrol", "--all", "-o", "show", "partition"))
    assert set(partitions) == set(partitions_of_sinfo(lines))
    assert [p.name for p in partitions.values() if p.is_default] == ["gpu"]
    assert [p.name for p in partitions_of_sinfo(lines).values() if p.is_default] == ["gpu"]
    assert partitions["h100"].memory_per_gpu_bytes == 100_000 << 20
    assert partitions["l40s"].memory_per_cpu_bytes == 4000 << 20
    assert partitions["mig"].memory_per_node_bytes == 64_000 << 20
    of_cluster = default_memory(cluster.environment())
    assert of_cluster.memory_per_cpu_bytes == 1000 << 20 and of_cluster.limits_memory


# Candidates, against what the scheduler itself allows


@pytest.mark.parametrize(
    "words",
    [
        ("--gres=gpu:8",),
        ("--gres=gpu:2",),
        ("-p", "a100", "--gres=gpu:a100:8"),
        ("-p", "a100,h100", "--gres=gpu:8", "-C", "gpu_mem:80gb"),
        ("-p", "a100-all", "--gpus-per-node=4", "-C", "ampere"),
        ("-p", "a100-all", "--gres=gpu:8"),
        ("--gres=gpu:v100:2",),
        ("--gres=gpu:l40s:2,gpu:v100:1",),
        ("-p", "gpu", "--gres=gpu:4", "-C", "ada|hopper"),
        ("-p", "gpu", "--gres=gpu:4", "-C", "(ada|hopper)&nvlink"),
        ("-p", "mig", "--gres=gpu:1g.10gb:3"),
        ("-p", "any", "--gres=gpu:1"),
        ("--gres=gpu:8", "-w", "h100-[01-02],a100-01"),
        ("--gres=gpu:8", "-x", "a100-[01-02],h100-01"),
        ("-N1", "-n4", "--gpus-per-task=1"),
        ("-N1", "--gpus=6"),
        ("-p", "cpu"),
        ("--gres=gpu:h100:9",),
    ],
)
def test_the_candidates_are_the_nodes_on_which_slurm_would_start_the_job(cluster, words):
    """Each node of the cluster is asked for by name: `--test-only` says whether it can ever be given."""
    inventory = read_inventory(cluster.environment())
    found = candidates(submit_options([*words, "job.sh"], {}), inventory)
    possible = set()
    named = words[words.index("-w") + 1] if "-w" in words else None
    for node in inventory.nodes:
        if named and node.name not in host_names(named):
            continue
        asked = [*words, "-w", node.name, "--wrap", "true"]  # the last -w counts
        tried = cluster.run("sbatch", "--test-only", *asked)
        if tried.returncode == 0:
            possible.add(node.name)

    assert {node.name for node in found.nodes} == possible


@pytest.mark.parametrize("missing", [(), ("sinfo",), ("sinfo", "--json")])
def test_whoever_answers_the_nodes_are_the_same(cluster, tmp_path, monkeypatch, missing):
    """Programs of these names stand in front of Slurm's: they fail, or hand everything else on."""
    whole = read_inventory(cluster.environment())
    real = shutil.which("scontrol", path=cluster.path)
    for name, text in (
        ("sinfo", "exit 1"),
        ("scontrol", f'case "$*" in *--json*) exit 1;; esac\nexec {real} "$@"'),
    ):
        if (name if name == "sinfo" else "--json") in missing:
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{cluster.path}")
    found = read_inventory(cluster.environment())

    assert found.source == {0: "sinfo", 1: "scontrol --json show node"}.get(
        len(missing), "scontrol --oneliner show node"
    )
    assert {node.name: node.gpus for node in found.nodes} == {n.name: n.gpus for n in whole.nodes}
    assert found.default_partition == whole.default_partition == "gpu"


def test_without_slurm_there_is_no_inventory(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(NoInventory, match="neither scontrol nor sinfo"):
        read_inventory({})


def test_a_slurm_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    for name in ("sinfo", "scontrol"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho $$ >{tmp_path}/{name}.pid\nexec sleep 600\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(inventory, "TIMEOUT_S", 1.0)

    with pytest.raises(NoInventory, match="within 1 s"):
        read_inventory()

    pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []


def test_an_answer_longer_than_a_pipe_arrives_whole(tmp_path, monkeypatch):
    line = "n-{}|gpu*|gpu:a100:8|ampere,gpu_mem:80gb|idle|1000000|64"
    (tmp_path / "nodes").write_text("\n".join(line.format(i) for i in range(40_000)) + "\n")
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\nexec cat {tmp_path}/nodes\n")
    (tmp_path / "sinfo").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(inventory, "TIMEOUT_S", 60.0)
    found = read_inventory()

    assert len(found.nodes) == 40_000
    assert found.default_partition == "gpu"


INVENTORY = Inventory(
    (
        Node("a-1", ("p", "q"), (GpuCount("a100", 8),), ("gpu_mem:40gb",)),
        Node("a-2", ("p",), (GpuCount("a100", 8),), ("gpu_mem:80gb",)),
        Node("a-3", ("p", "q"), (GpuCount("a100", 4),)),
        Node("o-1", ("odd",), (GpuCount("frobnicator", 4),)),
        Node("f-1", ("p",), (GpuCount("h100", 8),), state="FUTURE"),
    ),
    {"p": Partition("p", is_default=True), "q": Partition("q"), "odd": Partition("odd")},
    "a test",
)


def found_for(*words: str):
    return candidates(submit_options([*words, "job.sh"], {}), INVENTORY)


def test_gpus_alike_are_one_group_and_the_largest_comes_first():
    found = found_for("--gres=gpu:4")

    assert [(g.type, [n.name for n in g.nodes]) for g in found.groups] == [
        ("a100", ["a-2"]),
        ("a100", ["a-1"]),
        ("a100", ["a-3"]),
    ]
    assert found.assumed == ("partition p, the default of the cluster",)


def test_whole_nodes_bring_all_their_gpus():
    found = found_for("--exclusive", "-C", "gpu_mem:80gb")

    assert [(g.type, g.num_gpus_per_node) for g in found.groups] == [("a100", 8)]


def test_an_option_that_is_not_understood_is_told_and_rules_no_node_out():
    found = found_for("--gres=gpu:8", "-C", "(((", "-x", "a-[1-")

    assert found.not_understood == ("--constraint=(((", "-x a-[1-")
    assert len(found.nodes) == 2


def answers(limit_gib: float):
    """Return a judge of a launch that needs so many GiB."""
    asked: list[str] = []

    def answer(device: DeviceSpec) -> Answer:
        asked.append(device_words(device))
        return Answer.FITS if device.capacity_bytes >= limit_gib * GIB else Answer.DOES_NOT_FIT

    return answer, asked


def test_between_the_ends_of_a_range_a_launch_may_fit():
    answer, asked = answers(60)
    judged = judge_candidates(found_for("--gres=gpu:4"), answer)

    assert [(group.nodes[0].name, fit) for group, fit in judged.fits] == [
        ("a-2", Fit.FITS),
        ("a-1", Fit.DOES_NOT_FIT),
        ("a-3", Fit.MAYBE),
    ]
    assert judged.is_mixed and not judged.refuses
    assert len(asked) == len(set(asked))


def test_only_what_fits_nowhere_at_all_is_refused():
    for limit_gib, partition, refuses in ((90, "p", True), (60, "q", False), (90, "odd", False)):
        answer, _ = answers(limit_gib)
        judged = judge_candidates(found_for("-p", partition, "--gres=gpu:4"), answer)

        assert judged.refuses is refuses, partition
    assert not judge_candidates(found_for("--gres=gpu:16"), answers(1)[0]).refuses


@pytest.mark.parametrize(
    ("low", "high", "fit"),
    [
        (Answer.FITS, Answer.FITS, Fit.FITS),
        (Answer.TIGHT, Answer.FITS, Fit.FITS),
        (Answer.DOES_NOT_FIT, Answer.TIGHT, Fit.MAYBE),
        (Answer.DOES_NOT_FIT, Answer.UNKNOWN, Fit.MAYBE),
        (Answer.UNKNOWN, Answer.UNKNOWN, Fit.UNKNOWN),
        (Answer.DOES_NOT_FIT, Answer.DOES_NOT_FIT, Fit.DOES_NOT_FIT),
    ],
)
def test_two_answers_make_one(low, high, fit):
    assert fit_of(low, high) is fit
