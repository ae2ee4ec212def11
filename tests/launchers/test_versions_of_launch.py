"""Defaults that moved between releases: by what the launch will have, and open where nothing says what that is."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest
from own_sources import own_trees

import preflight
from preflight.errors import BadInput
from preflight.report import Report
from preflight.scripts.arguments.trainer_versions import READ_BY_RELEASE
from preflight.verdict import Answer
from preflight.versions.boundary import Boundary

SFT = """\
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser

def main():
    script, training, model = TrlParser((ScriptArguments, SFTConfig, ModelConfig)).parse_args_and_config()
    trainer = SFTTrainer(model=model.model_name_or_path, args=training)
    trainer.train()

main()
"""
FSDP = """\
distributed_type: FSDP
num_processes: {ranks}
num_machines: 1
mixed_precision: bf16
fsdp_config:
  fsdp_version: {version}
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_cpu_ram_efficient_loading: true
  fsdp_sync_module_states: true
  fsdp_use_orig_params: false
"""
ELSEWHERE = {"VIRTUAL_ENV": "/env/of/the/cluster"}
"""Names an environment that no machine of the tests has."""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "sft.py").write_text(SFT)
    (tmp_path / "fsdp2.yaml").write_text(FSDP.format(ranks=2, version=2))
    (tmp_path / "fsdp1.yaml").write_text(
        FSDP.format(ranks=2, version=1) + "  fsdp_offload_params: true\n"
    )
    return tmp_path


def check(folder: Path, words: str, device: str = "a100-sxm-80", **settings: object) -> Report:
    argv = ["accelerate", "launch", "--config_file", *words.split()]
    return preflight.check(argv, device=device, settings=settings, cwd=folder, env=ELSEWHERE)


LAUNCH = "fsdp2.yaml sft.py --model_name_or_path Qwen/Qwen2.5-7B --per_device_train_batch_size 6"


def said(versions: dict[str, str]) -> dict[str, object]:
    return {f"versions.{name}": version for name, version in versions.items()}


def test_defaults_are_those_of_the_pinned_release(repository):
    """TRL 0.12 has neither checkpointing nor a chunked loss, and transformers 4.46 no FSDP2 of its own."""
    pins = "trl==0.12.0\ntransformers==4.46.1\ntorch==2.5.1\naccelerate==1.0.1\n"
    (repository / "requirements.txt").write_text(pins)
    words = "--num_processes 2 --multi_gpu sft.py --model_name_or_path Qwen/Qwen2.5-7B"
    argv = ["accelerate", "launch", *words.split(), "--fsdp", "full_shard auto_wrap", "--bf16", "true"]  # fmt: skip
    report = preflight.check(argv, device="a100-sxm-80", cwd=repository, env=ELSEWHERE)
    plan = report.plan

    assert (plan.activation_checkpointing, plan.loss) == ("none", "full_logits")
    assert (plan.engine, plan.wrap_policy, plan.optimizer) == ("fsdp1", "transformer", "adamw_torch")  # fmt: skip
    assert plan.versions["trl"] == "0.12.0"
    assert plan.origins["versions.trl"].where == "requirements.txt:1"
    assert report.readings is None


def test_without_auto_wrap_an_old_trainer_wraps_nothing(repository):
    words = "sft.py --model_name_or_path Qwen/Qwen2.5-7B --fsdp full_shard"
    versions = {"trl": "0.12.0", "transformers": "4.46.1", "torch": "2.5.1", "accelerate": "1.0.1"}
    argv = ["torchrun", "--nproc_per_node", "2", *words.split()]

    def plan_of(**more: str):
        settings = said({**versions, **more})
        return preflight.check(argv, device="a100-sxm-80", settings=settings, cwd=repository).plan

    assert (plan_of().engine, plan_of().wrap_policy) == ("fsdp1", "none")
    new = plan_of(trl="1.16.0", transformers="5.24.0", torch="2.13.0")
    assert (new.engine, new.wrap_policy) == ("fsdp2", "transformer")


def test_what_nothing_says_decides_nothing(repository):
    """The same launch fits or does not with the releases of different years."""
    report = check(repository, LAUNCH)

    assert report.verdict.answer is Answer.UNKNOWN
    assert report.readings is not None and list(report.readings.deciding) == ["versions"]
    answers = {way.answer for way in report.readings.deciding["versions"]}
    assert {Answer.FITS, Answer.DOES_NOT_FIT} <= answers
    text = preflight.api.report_text(report)
    assert text.startswith("preflight: cannot tell. ")
    assert "--set versions.trl=" in text


def test_each_reading_is_the_launch_as_it_is_read_with_those_versions_said(repository):
    report = check(repository, LAUNCH)
    assert report.readings is not None
    ways = report.readings.deciding["versions"]

    for way in ways:
        alone = check(repository, LAUNCH, **said(way.value))
        assert alone.readings is None
        assert alone.verdict.answer is way.answer
        assert alone.estimate is not None
        assert alone.estimate.device_peak_bytes == way.most.peak_bytes
    assert len(ways) > 5


def test_one_version_that_is_said_leaves_the_others_open(repository):
    report = check(repository, LAUNCH, **{"versions.trl": "0.21.0"})
    sets = [other.versions for other in report.plan.version_readings]

    assert report.plan.versions["trl"] == "0.21.0"
    assert {versions["trl"] for versions in sets} == {"0.21.0"}
    assert len({versions["transformers"] for versions in sets}) > 1
    assert report.verdict.answer is Answer.DOES_NOT_FIT  # with any of them


def test_a_range_without_a_change_inside_is_as_good_as_a_version(repository):
    (repository / "pyproject.toml").write_text(
        '[project]\ndependencies = ["trl>=1.16,<1.18", "transformers~=5.24.0", "torch==2.13.0", "accelerate>=1.14,<1.16"]\n'
    )
    report = check(repository, LAUNCH)

    assert report.verdict.answer is Answer.FITS
    assert report.readings is None
    assert "pyproject.toml:2 asks for trl >=1.16,<1.18" in report.plan.origins["versions.trl"].reason  # fmt: skip


def test_a_value_that_is_said_is_the_same_under_every_version(repository):
    flags = " --gradient_checkpointing false --bf16 true --loss_type nll --dtype bfloat16 --optim adamw_torch"
    report = check(repository, LAUNCH + flags)
    changed = {name for other in report.plan.version_readings for name in other.fields}

    assert not changed & {"activation_checkpointing", "mixed_precision", "load_dtype", "optimizer"}


def test_what_a_script_says_holds_under_every_version(tmp_path):
    words = "torchrun --nproc_per_node 2 a/text-classification/run_glue.py --output_dir out --model_name_or_path bert-base-cased"
    plan = preflight.check(words.split(), device="h100", cwd=tmp_path, env=ELSEWHERE).plan

    assert plan.objective == "sequence_classification" and plan.version_readings
    assert all("objective" not in other.fields for other in plan.version_readings)


def test_a_setting_of_the_user_holds_under_every_version(repository):
    report = check(repository, LAUNCH, activation_checkpointing="full", loss="chunked_linear")
    fields = {name for other in report.plan.version_readings for name in other.fields}

    assert not fields & {"activation_checkpointing", "loss"}
    assert report.verdict.answer in (Answer.FITS, Answer.TIGHT)


QLORA = (
    "fsdp1.yaml sft.py --model_name_or_path meta-llama/Llama-2-70b-hf --max_length 2048"
    " --per_device_train_batch_size 1 --load_in_4bit --use_peft --lora_r 8 --dtype bfloat16"
    " --bnb_4bit_quant_storage bfloat16 --gradient_checkpointing true --attn_implementation flash_attention_2"
)


def test_a_loader_that_nobody_named_refuses_nothing(repository):
    """A packed model is whole on every device in transformers 5 and on the host before: 70B on two cards of 24 GB."""
    unsaid = check(repository, QLORA, "rtx4090-24")
    assert unsaid.verdict.answer is not Answer.DOES_NOT_FIT

    new = {"transformers": "5.24.0", "trl": "1.16.0", "torch": "2.13.0", "accelerate": "1.15.0", "peft": "0.21.2"}  # fmt: skip
    old = {"transformers": "4.48.1", "trl": "0.13.0", "torch": "2.5.1", "accelerate": "1.3.0", "peft": "0.14.0"}  # fmt: skip
    assert check(repository, QLORA, "rtx4090-24", **said(new)).verdict.answer is Answer.DOES_NOT_FIT
    assert check(repository, QLORA, "rtx4090-24", **said(old)).verdict.answer is not Answer.DOES_NOT_FIT  # fmt: skip


def test_a_repository_says_versions_in_its_settings(repository):
    (repository / "preflight.toml").write_text('[plan.versions]\ntrl = "0.21.0"\n')
    repository.chmod(0o700)
    plan = check(repository, LAUNCH).plan

    assert plan.versions["trl"] == "0.21.0"
    assert plan.origins["versions.trl"].where.endswith("preflight.toml:2")
    assert check(repository, LAUNCH, **{"versions.trl": "1.16.0"}).plan.versions["trl"] == "1.16.0"


@pytest.mark.parametrize(("version", "refuses"), [("5.24.0", True), ("5.9.0", False), ("", False)])
def test_a_word_is_refused_only_by_a_release_that_somebody_says(repository, version, refuses):
    words = "sft.py --model_name_or_path Qwen/Qwen2.5-7B --fsdp hybrid_shard"
    argv = ["torchrun", "--nproc_per_node", "2", *words.split()]
    settings = said({"transformers": version, "trl": "0.28.0"} if version else {})

    def report() -> Report:
        return preflight.check(argv, device="a100-sxm-80", settings=settings, cwd=repository, env=ELSEWHERE)  # fmt: skip

    if refuses:
        with pytest.raises(BadInput, match="only with FSDP1"):
            report()
    else:
        assert report().plan.engine in ("fsdp1", "fsdp2")


@pytest.mark.parametrize("words", ["versions.trl=", "versions.trl=latest"])
def test_what_is_no_version_is_refused_by_name(words, capsys):
    from preflight.cli import main

    assert main(["check", "--set", words, "--", "accelerate", "launch", "sft.py"]) == 2
    assert "must be a version" in capsys.readouterr().err


def test_the_report_says_where_versions_come_from(repository):
    (repository / "requirements.txt").write_text("trl==1.16.0\ntransformers>=5.24,<5.25\n")
    text = preflight.api.report_text(check(repository, LAUNCH))
    words = " ".join(text.split())

    assert "versions: trl 1.16.0 (requirements.txt)" in words
    assert "transformers 5.24.0 (requirements.txt:2 asks for transformers >=5.24,<5.25)" in words
    # a transformers of today takes no torch before 2.6, and what lies between are the sets of releases
    assert (
        "versions, which nothing says: accelerate 1.9.0 to 1.16.0, torch 2.7.1 to 2.13.0" in words
    )


READERS = tuple(f"preflight/{name}/" for name in ("trainers", "engines", "scripts", "launchers"))
NOT_OF_FIELDS = {
    "REFUSES_REMOVED_KEYS": "refuses keys, and only where somebody says the release",
    "ZERO3_IS_ON_WITHOUT_INIT": "decides what a check says of a loop of somebody's own",
    "CONFIGS_ARE_PYTHON": "follows from how a torchtitan launch is written",
    **dict.fromkeys(
        ("KEEPS_LOGITS", "PLAIN_DDP_RECOMPUTES", "KEEPS_LORA_DTYPE"),
        "ms-swift's release is the newest that has every argument of the launch",
    ),
    "UNPADS_BY_DEFAULT": "verl's padding, which is open where nobody says the release",
    "REFERENCE_IF_ASKED": "verl's reference, which is open where nobody says the release",
    **dict.fromkeys(
        ("RECOMPUTES_BY_DEFAULT", "COUNTS_ROWS_OF_A_GPU"),
        "verl's first release, which no launch has that does not say it",
    ),
    "KEEPS_TO_TOKENS": "verl's micro batches, which may go beyond their tokens where nobody says the release",
    "SERVES_ITS_ENGINE": "verl's reward model, which is named where nobody says the release",
    "SUMS_ROWS": "OpenRLHF's actor, which is the dearest release's where nobody says which",
    "SCORES_BY_KERNEL": "OpenRLHF's loss, which is the dearer release's where nobody says which",
    "OVERLAPS_NOTHING": "LLaMA-Factory's own DeepSpeed file, which is the dearer release's where nobody says which",
    **dict.fromkeys(
        ("SAVES_BY_DEFAULT", "FUSES_ADAMW"),
        "prime-rl's own code, of which nothing is said to fit, and a refusal rests on states alone",
    ),
    "REBUILDS_UNPACKED": "axolotl's scattermoe, which is named where nobody says the release",
    "SHARDS_LORA_BY_FSDP2": "litgpt's engine, which is open where nobody says the release",
}


def test_a_change_that_readers_ask_for_is_one_that_launches_are_read_again_for():
    """A launch is read once for all releases on the same sides of these."""
    read = {id(boundary) for boundary in READ_BY_RELEASE}
    asked = [
        (path, name)
        for path, tree in own_trees()
        if path.startswith(READERS) and not path.endswith("/trainer_versions.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("preflight.versions.")
        for name in (each.name for each in node.names)
        if isinstance(boundary := getattr(import_module(node.module), name), Boundary)
        and id(boundary) not in read
    ]  # fmt: skip

    assert {name for _, name in asked} == NOT_OF_FIELDS.keys()


@pytest.mark.parametrize(
    ("version", "engine", "may_be"),
    [("0.5.13", "fsdp2", ()), ("0.5.10", "fsdp1", ()), ("", "fsdp2", ("fsdp1",))],
)
def test_litgpts_own_change_of_engine_is_open_too(repository, version, engine, may_be):
    if version:
        (repository / "requirements.txt").write_text(f"litgpt=={version}\n")
    argv = "litgpt finetune_lora Qwen/Qwen2.5-7B --devices 2 --train.max_seq_length 512"
    plan = preflight.check(argv.split(), device="a100-sxm-80", cwd=repository, env=ELSEWHERE).plan

    assert plan.engine == engine
    assert plan.origins["engine"].may_be == may_be


UNPARSED = """\
from transformers import AutoModelForCausalLM
from trl import SFTConfig, SFTTrainer

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B", dtype="bfloat16")
arguments = SFTConfig(output_dir="out", per_device_train_batch_size=4, max_length=2048, bf16=True)
SFTTrainer(model=model, args=arguments).train()
"""


def test_what_a_release_may_leave_off_is_written_down_where_that_makes_a_launch_fit(tmp_path):
    """Newer releases of TRL checkpoint unasked: under older ones LoRA needs it said, and no flag reaches such a script."""
    (tmp_path / "train.py").write_text(UNPARSED)
    report = preflight.check(
        ["python", "train.py"], device="rtx4090-24", cwd=tmp_path, env=ELSEWHERE
    )
    lora = next(tried for tried in report.suggested if tried.remedy.id == "lora")

    assert report.plan.is_open("activation_checkpointing")
    assert lora.verdict.answer is Answer.FITS
    assert not lora.plan.is_open("activation_checkpointing")
    assert "gradient_checkpointing=True" in lora.remedy.how
    assert "peft_config=LoraConfig(" in lora.remedy.how
    assert "--" not in lora.remedy.how and lora.remedy.extra["can_copy"]


def test_headroom_says_which_peak_it_is_beside_where_versions_make_another(tmp_path):
    (tmp_path / "train.py").write_text(UNPARSED)
    report = preflight.check(
        ["python", "train.py"],
        device="h200-sxm-141",
        settings={"adapter.rank": 16, "seq_len": 1024},
        cwd=tmp_path,
        env=ELSEWHERE,
    )
    assert report.readings is not None and report.device is not None
    most, taken = report.readings.most.peak_bytes, report.readings.likely.peak_bytes

    assert report.verdict.answer is Answer.FITS
    assert most is not None and taken is not None and most > taken + 2**30
    text = preflight.api.report_text(report)
    assert f"of the dearest reading, {most / 2**30:.1f} GiB" in " ".join(text.split())
