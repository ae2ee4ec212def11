"""`preflight.guard()`: the plan of live objects, and the same report and refusal as before a launch."""

from __future__ import annotations

import io

import pytest
import tiny

import preflight
from preflight.embedded.live_plan import live_plan

ROOMY, SMALL = "tiny:1.9", "tiny:0.0005"


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFLIGHT", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def model():
    return tiny.model()


def test_a_trainer_is_read_as_its_own_launch_would_be(model, tmp_path):
    """Every value of the live plan is that of `python train.py` with the same arguments."""
    from transformers import Trainer

    args = tiny.arguments(
        tmp_path / "out",
        gradient_accumulation_steps=2,
        gradient_checkpointing=True,
        max_grad_norm=0.5,
        eval_strategy="steps",
        per_device_eval_batch_size=3,
        optim="adafactor",
    )
    trainer = Trainer(model=model, args=args, train_dataset=tiny.rows(), eval_dataset=tiny.rows(4))
    plan = live_plan(
        model, args=args, accelerator=trainer.accelerator, trainer=trainer, seq_len=tiny.LENGTH
    )
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    (tmp_path / "config.json").write_text(model.config.to_json_string(use_diff=False))
    flags = "--per_device_train_batch_size 2 --gradient_accumulation_steps 2 --max_length 32"
    flags += " --gradient_checkpointing True --max_grad_norm 0.5 --eval_strategy steps"
    flags += " --per_device_eval_batch_size 3 --optim adafactor --model_name_or_path ."
    launch = preflight.check(
        ["python", "train.py", *flags.split()], device=ROOMY, settings={"load_dtype": "fp32"}
    )
    live = preflight.check(plan, device=ROOMY)
    ours, theirs = live.plan.to_dict(), launch.plan.to_dict()
    # The launch names a folder, and which libraries it counts is its reader's business.
    differing = {
        name
        for name in ours
        if ours[name] != theirs[name]
        and name not in ("model", "model_config", "versions", "launcher", "loss", "cwd")
    }

    assert differing == set(), {name: (ours[name], theirs[name]) for name in differing}
    assert live.estimate is not None and launch.estimate is not None
    assert live.estimate.allocated_peak_bytes == launch.estimate.allocated_peak_bytes


def test_what_fits_is_one_line_and_what_does_not_raises_with_the_report(model):
    said = io.StringIO()
    given = {"seq_len": 32, "micro_batch_size": 2, "report_to": said}
    report = preflight.guard(model, device=ROOMY, **given)
    with pytest.raises(preflight.LaunchRefused) as raised:
        preflight.guard(model, device=SMALL, **given)

    assert report is not None and report.verdict.answer.value == "fits"
    assert said.getvalue().count("\n") == 1 and said.getvalue().startswith("preflight: fits. Peak ")
    text = str(raised.value)
    assert text.startswith("preflight: does not fit. Peak ") and "largest terms" in text
    assert text.splitlines()[-1].startswith("next: training was not started")
    assert raised.value.report.model.num_params == sum(p.numel() for p in model.parameters())


def test_warn_goes_on_and_off_does_not_look(model, monkeypatch):
    said = io.StringIO()
    given = {"seq_len": 32, "micro_batch_size": 2, "device": SMALL, "report_to": said}
    monkeypatch.setenv("PREFLIGHT", "warn")
    warned = preflight.guard(model, **given)
    text = said.getvalue()
    monkeypatch.setenv("PREFLIGHT", "off")

    assert warned is not None and text.splitlines()[-1].startswith("next: training starts")
    assert preflight.guard(model, **given) is None
    assert said.getvalue() == text


def test_a_later_rank_comes_to_the_same_answer_and_says_nothing(model, monkeypatch):
    said = io.StringIO()
    given = {"seq_len": 32, "micro_batch_size": 2, "report_to": said}
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    report = preflight.guard(model, device=ROOMY, **given)

    assert report is not None and report.plan.world_size == 4 and report.plan.engine == "ddp"
    assert said.getvalue() == ""
    with pytest.raises(preflight.LaunchRefused):
        preflight.guard(model, device=SMALL, **given)


def test_a_model_of_ones_own_is_judged_by_its_states_and_never_said_to_fit():
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(300, 3000), torch.nn.LayerNorm(3000))
    given = {"seq_len": 1, "micro_batch_size": 1, "report_to": io.StringIO()}
    report = preflight.guard(model, device=ROOMY, **given)

    assert report is not None and report.verdict.answer.value == "unknown"
    assert "activation formula for Sequential" in report.verdict.reason
    assert report.model is not None and report.model.num_params == 909_000
    with pytest.raises(preflight.LaunchRefused, match="optimizer states"):
        preflight.guard(model, device="tiny:0.01", **given)


def test_adapters_and_frozen_parameters_of_the_live_model_are_seen(tmp_path):
    from peft import LoraConfig, get_peft_model

    base = tiny.model()
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    adapted = get_peft_model(base, lora)
    said = io.StringIO()
    given = {"seq_len": 32, "micro_batch_size": 2, "device": ROOMY, "report_to": said}
    report = preflight.guard(adapted, **given)
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    frozen = tiny.model()
    for parameter in frozen.model.parameters():
        parameter.requires_grad = False
    noted = preflight.guard(frozen, **given)

    assert report is not None and report.plan.adapter is not None
    assert report.plan.adapter.rank == 4 and report.plan.adapter.targets == ("q_proj", "v_proj")
    assert report.num_trainable_params == trained and report.notes == ()
    assert noted is not None and "parameters of the live model train" in noted.notes[0]


def test_an_optimizer_says_which_it_is(model):
    import torch

    fused = torch.optim.AdamW(model.parameters(), fused=True)
    plain = torch.optim.AdamW(model.parameters(), foreach=False)

    assert live_plan(model, optimizer=fused).optimizer == "adamw_torch_fused"
    assert live_plan(model, optimizer=plain).optimizer_kernel == "for_loop"
    assert live_plan(model, optimizer=torch.optim.SGD(model.parameters())).optimizer == "sgd"


def test_a_state_that_an_option_adds_to_a_live_optimizer_is_priced(model):
    import torch

    def optimizer_of(momentum: float) -> str | None:
        live = torch.optim.SGD(model.parameters(), momentum=momentum)
        return live_plan(model, optimizer=live).optimizer

    assert [optimizer_of(0.0), optimizer_of(0.9)] == ["sgd", "torch.SGD(momentum)"]


def test_sharding_is_read_from_the_plugins_of_an_accelerator(model):
    """Stand-ins with the attributes of accelerate 1.15's plugins: a real one needs an accelerator to shard on."""
    from types import SimpleNamespace as Object

    plugin = Object(
        fsdp_version=2,
        reshard_after_forward=False,
        cpu_offload=None,
        activation_checkpointing=True,
        state_dict_type=Object(name="SHARDED_STATE_DICT"),
        cpu_ram_efficient_loading=True,
        auto_wrap_policy=None,
    )
    accelerator = Object(
        num_processes=8,
        distributed_type=Object(value="FSDP"),
        mixed_precision="bf16",
        gradient_accumulation_steps=4,
        state=Object(fsdp_plugin=plugin),
    )
    fsdp = live_plan(model, accelerator=accelerator)
    accelerator.distributed_type = Object(value="DEEPSPEED")
    zero = {"stage": 3, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": "auto"}
    accelerator.state = Object(
        deepspeed_plugin=Object(deepspeed_config={"zero_optimization": zero})
    )
    deepspeed = live_plan(model, accelerator=accelerator)

    assert (fsdp.engine, fsdp.shard_degree, fsdp.reshard_after_forward) == ("fsdp2", 8, False)
    assert (fsdp.activation_checkpointing, fsdp.mixed_precision) == ("full", "bf16")
    assert fsdp.gradient_accumulation_steps == 4 and fsdp.problems() == ()
    assert (deepspeed.engine, deepspeed.offload_optimizer) == ("zero3", "cpu")
    assert deepspeed.deepspeed is not None and deepspeed.deepspeed.reduce_bucket_size is None


def test_a_safe_change_that_makes_it_fit_is_named_as_plan_fields(model):
    given = {"seq_len": 32, "micro_batch_size": 2, "report_to": io.StringIO()}
    whole = preflight.guard(model, device=ROOMY, **given)
    assert whole is not None and whole.estimate is not None
    size = f"tiny:{whole.estimate.allocated_peak_bytes * 0.95 / 2**30!r}"
    with pytest.raises(preflight.LaunchRefused) as raised:
        preflight.guard(model, device=size, **given)
    text = str(raised.value)

    assert "this makes it fit, and keeps the training as it is:" in text
    assert "activation_checkpointing = full" in text and "suggested" not in text
    assert raised.value.report.applied and raised.value.report.rewrite is None
