"""docs/schema/*.json describe what the commands print, and nothing else; plan.json is made from the plan.

Objects of these schemas allow no other key, so an output with a key that no schema has is a red test;
and a key that no output here has is one too, but for those that need a GPU, a cluster or an accident.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

import preflight
from preflight.cli import main
from preflight.launch import PLAN_FIELDS
from preflight.render.plan_reference import docstrings_of, plan_page, plan_schema, told_fields
from preflight.site_correction import MIN_RUNS

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SCHEMAS = {
    path.name: json.loads(path.read_text()) for path in (ROOT / "docs/schema").glob("*.json")
}
REGISTRY: Registry[Any] = Registry().with_resources(
    [(name, Resource.from_contents(schema)) for name, schema in SCHEMAS.items()]
)
UPDATE = "pytest tests/test_json_schema.py --update-expected"
NOT_SEEN_HERE = {
    "error.json": {"plugin", "hook", "message"},
    "probe.json": {"name", "is_mig", "uuid", "holders", "source", "compute_capability", "pid", "used_bytes"}
    | {"num_bytes", "said_by"},
    "report.json": {"notes"},
}  # fmt: skip
"""Keys that only a failing plugin, a GPU or a limit of this node would show."""
TINY = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1} | {
    "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64
}  # fmt: skip
LAUNCH = "--config_file fsdp2.yaml train.py --model_name_or_path meta-llama/Llama-3.1-8B --max_length 16384 --per_device_train_batch_size 1 --gradient_accumulation_steps 4 --bf16 True --output_dir out"


def problems(name: str, value: Any) -> list[str]:
    """Return what is wrong with a value, each with its place in it."""
    validator = Draft202012Validator({"$ref": name}, registry=REGISTRY)
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(value)]


def declared(schema: Any) -> Iterator[str]:
    """Yield every property that a schema names itself."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from declared(value)
    elif isinstance(schema, list):
        for item in schema:
            yield from declared(item)


def keys_of(value: Any) -> Iterator[str]:
    """Yield every key of every object in a value."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from keys_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from keys_of(item)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, list[Any]]:
    """What the commands print here and now, by schema."""
    place = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        return printed_in(place, patch)


def printed_in(place: Path, patch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    def told(*words: str) -> Any:
        import contextlib
        import io

        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            main([*words, "--format", "json"] if "--" not in words else put_format(words))
        return json.loads(out.getvalue())

    def put_format(words: tuple[str, ...]) -> list[str]:
        return [words[0], "--format", "json", *words[1:]]

    found: dict[str, list[Any]] = {}
    reports = found["report.json"] = []
    for folder, *words in (
        ("1-fits", "check", "--device", "h100-sxm-80", "--dataset", "rows.jsonl"),
        ("2-rewritten", "fix", "--device", "h100-sxm-80", "-v", "--policy", "policy.yaml"),
        ("2-rewritten", "fix", "--device", "h100-sxm-80"),
        ("2-rewritten", "check"),
    ):
        shutil.copytree(EXAMPLES / folder, place / folder, dirs_exist_ok=True)
        patch.chdir(place / folder)
        Path("rows.jsonl").write_text('{"num_tokens": 900}\n{"num_tokens": 12}\n')
        Path("policy.yaml").write_text("ignore: [PF102]\nrefuse_findings: [PF101]\n")
        config = Path("fsdp2.yaml").read_text()
        Path("fsdp2.yaml").write_text(
            f"same_network: true\nmain_training_function: f\n{config}  fsdp_x: 1\n"
        )
        reports.append(told(*words, "--", "accelerate", "launch", *LAUNCH.split()))
    shutil.copytree(EXAMPLES / "3-refused", place / "3-refused")
    patch.chdir(place / "3-refused")
    words = "accelerate launch --config_file zero3.yaml train.py --model_name_or_path meta-llama/Llama-3.1-70B"
    more = "--max_length 4096 --per_device_train_batch_size 1 --gradient_accumulation_steps 8 --bf16 True --output_dir out"
    on_device = ("check", "--device", "a100-sxm-40", "--forbid", "offload_optimizer")
    reports.append(told(*on_device, "--", *words.split(), *more.split()))
    Path("plan.yaml").write_text(
        "model: meta-llama/Llama-3.1-8B\nseq_len: 1024\nmicro_batch_size: 1\n"
        "adapter: {rank: 8}\nbase_quantization: {scheme: nf4}\n"
    )
    reports.append(told("estimate", "plan.yaml", "--device", "t4-16"))
    found["error.json"] = [
        told("check", "--device", "nothing", "--", "accelerate", "launch", "--x")
    ]
    compare = (
        "size meta-llama/Llama-3.1-8B --compare Qwen/Qwen3-8B --seq-len 1024 --gpu h100-sxm-80"
    )
    found["worksheet.json"] = [told(*compare.split())]
    runs = str(ROOT / "tests" / "measured" / "runs-dev.yaml")
    found["validation.json"] = [told("validate", runs, "--worst", "2")]
    Path("tiny.yaml").write_text(
        f"model_config: {json.dumps(TINY)}\nmicro_batch_size: 1\nseq_len: 16\n"
    )
    found["trace.json"] = [told("trace", "--plan", "tiny.yaml", "--no-cache")]
    found["probe.json"] = [told("probe", "--checkpoints", ".")]
    (place / "1-fits" / "train.sh").write_text(f"accelerate launch {LAUNCH}\naccelerate launch\n")
    patch.chdir(place / "1-fits")
    found["scan.json"] = [told("scan", "--device", "h100-sxm-80")]
    folder = str(place / "records")
    found["record.json"] = records_in(folder)
    found["history.json"] = [told("history", "--folder", folder)]
    reports[0]["site_correction"] = next(iter(found["history.json"][0]["corrections"].values()))
    assert not [report["error"] for report in reports if "error" in report]
    found["plan.json"] = [report["plan"] for report in [*reports, *found["trace.json"]]]
    return found


def records_in(folder: str) -> list[Any]:
    """Measure one tiny training for real, and save copies of it as a GPU's, enough to correct something."""
    from dataclasses import replace

    import torch

    from preflight.run_store import save

    model = torch.nn.Linear(8, 8)
    optimizer = torch.optim.AdamW(model.parameters())
    with preflight.measure(model, optimizer=optimizer, folder=folder, report_to=None) as run:
        for _ in range(2):
            model(torch.ones(2, 8)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert run.record is not None
    card = {**run.record.device, "name": "NVIDIA T4", "kind": "cuda"}
    for number in range(MIN_RUNS):
        record = replace(
            run.record,
            run_id=f"run-{number}",
            device=card,
            outside_bytes=300 * 2**20,
            predicted_runtime={"CUDA context": 400 * 2**20},
        )
        save(record, folder)
    lines = [
        line for path in Path(folder).glob("runs-*.jsonl") for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def test_the_schemas_are_valid_schemas_and_refer_to_each_other_only():
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        refs = [part.split('"')[0] for part in json.dumps(schema).split('"$ref": "')[1:]]

        assert all(ref.startswith("#/") or ref.partition("#")[0] in SCHEMAS for ref in refs), name
        assert not [key for key in declared(schema) if not key.isidentifier()], name


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_the_commands_print_is_what_the_schema_says(name, outputs):
    assert outputs[name], "no output to compare"
    for value in outputs[name]:
        assert problems(name, value) == []


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_schema_describes_a_key_that_nothing_prints(name, outputs):
    seen = set(keys_of(outputs[name])) | NOT_SEEN_HERE.get(name, set())

    assert set(declared(SCHEMAS[name])) - seen == set()


def test_every_schema_is_on_the_page_about_json():
    page = (ROOT / "docs" / "reference-json.md").read_text()

    assert {name for name in SCHEMAS if f"](schema/{name})" in page} == set(SCHEMAS)


def test_a_key_that_the_schema_does_not_know_is_told(outputs):
    value = json.loads(json.dumps(outputs["report.json"][0]))
    value["estimate"]["terms"][0]["surprise"] = 1

    assert problems("report.json", value)
    assert problems("report.json", {**outputs["report.json"][0], "verdict": "perhaps"})


def test_the_plan_reference_and_its_schema_are_made_from_the_plan(request):
    page, schema = ROOT / "docs" / "reference-plan.md", ROOT / "docs" / "schema" / "plan.json"
    wanted = json.dumps(plan_schema(), indent=2) + "\n"
    if request.config.getoption("--update-expected"):
        page.write_text(plan_page())
        schema.write_text(wanted)

    assert page.read_text() == plan_page(), UPDATE
    assert schema.read_text() == wanted, UPDATE


def test_every_field_of_a_plan_has_a_meaning_in_the_reference():
    from preflight.launch import NESTED, LaunchPlan

    assert {f.name for f in told_fields(LaunchPlan)} <= set(PLAN_FIELDS)
    for kind in (LaunchPlan, *NESTED.values()):
        meanings = docstrings_of(kind)

        assert [f.name for f in told_fields(kind) if f.name not in meanings] == []
