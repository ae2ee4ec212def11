"""Arguments: what preflight takes for itself, what it leaves alone, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_llama import TINY_LLAMA
from toy import launch, make, preflight

from preflight import __version__
from preflight.cli import COMMANDS, main
from preflight.commands.explain import all_pages
from preflight.commands.options import settings_from
from preflight.errors import BadInput
from preflight.launch import Adapter


def told(capsys, *args: str) -> tuple[int, str, str]:
    code = main(list(args))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("name", ["check", "run", "fix"])
def test_a_command_without_the_dashes_is_shown_how_to_write_it(capsys, name):
    args = (name, "--device", "t4-16", "accelerate", "launch", "train.py", "--note", "a b")
    code, _, err = told(capsys, *args)

    assert code == (78 if name == "run" else 2)
    assert "the command must come after `--`" in err
    assert f"fix  preflight {name} --device t4-16 -- accelerate launch train.py --note 'a b'" in err


def test_a_command_of_accelerate_without_one_of_ours_is_shown_how_to_write_it(capsys):
    code, _, err = told(capsys, "accelerate", "launch", "train.py")

    assert code == 2
    assert "fix  preflight run -- accelerate launch train.py" in err


def test_nothing_after_the_dashes_is_an_error(capsys):
    code, _, err = told(capsys, "check", "--")

    assert code == 2
    assert "no command after `--`" in err


def test_a_misspelt_command_gets_the_nearest_name(capsys):
    code, _, err = told(capsys, "chekc", "--", "accelerate")

    assert code == 2
    assert "fix  did you mean check" in err


def test_options_of_the_command_are_not_ours(tmp_path):
    """`--format`, `-v` and even a second `--` after the first one belong to the launch."""
    command = [*launch(1), "--format", "xml", "-v", "--", "--set"]
    done = preflight(make(tmp_path), "run", "--device", "tiny:0.25", "--", *command)

    assert json.loads(done.stdout)["argv"] == command[2:]


def test_output_options_may_stand_before_the_command_name(tmp_path):
    args = ("--format", "json", "check", "--device", "tiny:0.25", "--", *launch(1))
    done = preflight(make(tmp_path), *args)

    assert json.loads(done.stdout)["verdict"] == "fits"


def test_values_of_set_are_read_as_yaml_but_words_stay_words():
    settings = settings_from(
        [
            "seq_len=4096",
            "mixed_precision=no",
            "offload_params=none",
            "reshard_after_forward=true",
            "adapter={rank: 16, targets: [q_proj]}",
            "adapter.dropout=0.1",
            "attention=null",
        ]
    )

    assert settings == {
        "seq_len": 4096,
        "mixed_precision": "no",
        "offload_params": "none",
        "reshard_after_forward": True,
        "adapter": Adapter(rank=16, targets=("q_proj",)),
        "adapter.dropout": 0.1,
        "attention": None,
    }


def test_every_wrong_setting_is_told_at_once():
    with pytest.raises(BadInput) as error:
        settings_from(["seqlen=5", "seq_len", "adapter.rnk=3", "adapter.rank=many", "a: [=1"])
    messages = [(p.message, p.fix) for p in error.value.problems]

    assert messages[0] == ("there is no plan field 'seqlen'", "did you mean seq_len")
    assert messages[1][0] == "--set takes FIELD=VALUE"
    assert messages[2] == ("there is no plan field adapter.rnk", "did you mean rank")
    assert messages[3][0] == "adapter.rank must be a whole number, not 'many'"
    assert len(messages) == 5


def test_a_model_config_is_read_from_its_file_or_its_folder(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    expected = {"model_config": {"model_type": "llama"}}

    assert settings_from([f"model_config={tmp_path / 'config.json'}"]) == expected
    assert settings_from([f"model_config={tmp_path}"]) == expected
    assert settings_from(['model_config={"model_type": "llama"}']) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not readable as JSON"), ("[]", "must be a JSON object"), (None, "there is no file")],
)
def test_a_model_config_that_is_none_is_bad_input(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)

    with pytest.raises(BadInput, match=message):
        settings_from([f"model_config={path}"])


@pytest.mark.parametrize("name", ["origins", "source", "wrapping", "on_this_node"])
def test_what_stages_hand_on_cannot_be_set(name):
    with pytest.raises(BadInput, match="there is no plan field"):
        settings_from([f"{name}=1"])


def test_no_value_of_the_environment_is_shown_behind_a_wrapper(tmp_path):
    options = ("check", "-v", "--device", "t4-16", "--set", "seq_len=128")
    launch = ("env", "A=1", "torchrun", "t.py", "--model_name_or_path=Qwen/Qwen3-0.6B", "--bf16")
    done = preflight(tmp_path, *options, "--", *launch, WANDB_API_KEY="not-to-be-seen")

    assert "micro_batch_size" in done.stdout, done.stderr
    assert "not-to-be-seen" not in done.stdout + done.stderr


def test_a_remedy_that_nobody_has_is_an_error_with_the_nearest_name(tmp_path):
    """A misspelt --forbid would otherwise forbid nothing."""
    done = preflight(make(tmp_path), "check", "--forbid", "micro_batches", "--", *launch(1))

    assert done.returncode == 2
    assert "there is no remedy 'micro_batches'" in done.stderr
    assert "did you mean micro_batch" in done.stderr


def test_a_wrong_policy_file_is_bad_input_that_names_every_key(tmp_path):
    (tmp_path / "p.yaml").write_text("refuse: [does_not_fits]\nalow: [qlora]\nrewrite: maybe\n")
    done = preflight(make(tmp_path), "check", "--policy", "p.yaml", "--", *launch(1))

    assert done.returncode == 2
    assert "there is no policy key 'alow'" in done.stderr
    assert "there is no verdict 'does_not_fits'" in done.stderr
    assert "rewrite must be true or false" in done.stderr
    assert done.stderr.count("at   p.yaml") == 3


def test_bad_input_as_json_is_an_object_with_every_problem(capsys):
    code, out, err = told(
        capsys, "check", "--set", "seqlen=5", "--format", "json", "--", "accelerate"
    )
    error = json.loads(out)

    assert code == 2 and err == ""
    assert error == {
        "schema_version": 1,
        "error": {
            "kind": "bad_input",
            "problems": [
                {
                    "message": "there is no plan field 'seqlen'",
                    "where": "--set seqlen=5",
                    "fix": "did you mean seq_len",
                    "id": "",
                    "severity": "error",
                }
            ],
        },
    }


def test_in_run_the_json_of_an_error_leaves_stdout_to_the_training_script(capsys):
    code, out, err = told(capsys, "run", "--format=json", "--set", "x=5", "--", "accelerate")

    assert code == 78 and out == ""
    assert json.loads(err)["error"]["kind"] == "bad_input"


def test_a_bug_of_ours_is_one_line_and_no_traceback(capsys, monkeypatch):
    import preflight.commands.explain as explain

    monkeypatch.setattr(explain, "all_pages", lambda: 1 // 0)
    code, _, err = told(capsys, "explain")

    assert code == 3
    assert err.startswith("preflight: ZeroDivisionError: ")
    assert "this is a bug in preflight" in err and "Traceback" not in err
    monkeypatch.setenv("PREFLIGHT_TRACE", "1")
    assert "Traceback" in told(capsys, "explain")[2]


def test_ctrl_c_is_quiet(capsys, monkeypatch):
    import preflight.commands.explain as explain

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(explain, "all_pages", interrupted)

    assert told(capsys, "explain") == (130, "", "")


def test_a_reader_who_leaves_is_no_error():
    script = f"{sys.executable} -m preflight.cli explain | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)

    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_command_says_how_to_use_it(capsys, name):
    code, out, _ = told(capsys, name, "--help")

    assert code == 0
    assert out.startswith(f"usage: preflight {name}")
    assert max(map(len, out.splitlines())) <= 100


def test_the_help_lists_every_command_the_exit_codes_and_examples(capsys):
    code, out, _ = told(capsys)

    assert code == 0
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "exit codes:" in out and "  78  run, sbatch, srun, salloc: nothing was started" in out
    assert "preflight run --device h100-sxm-80 -- accelerate launch" in out
    assert told(capsys, "--help")[1] == out


def test_the_version_is_that_of_the_package(capsys):
    assert told(capsys, "--version") == (0, f"preflight {__version__}\n", "")


def test_explain_prints_a_page_for_every_id(capsys):
    code, out, _ = told(capsys, "explain", "--format", "json")
    pages = json.loads(out)["pages"]

    assert code == 0
    assert {"micro_batch", "qlora", "PF101", "tight"} <= set(pages)
    for name in pages:
        code, out, _ = told(capsys, "explain", name)
        assert code == 0 and len(out.splitlines()) > 1, name


def test_every_finding_that_the_code_can_report_has_a_page():
    root = Path(__file__).parent.parent
    code = [*(root / "preflight").rglob("*.py"), *(root / "hooks").glob("*.py")]
    ids = {found for path in code for found in re.findall(r'"(PF\d{3})"', path.read_text())}

    assert len(ids) > 20
    assert sorted(ids - set(all_pages()) - {"PF100"}) == []  # PF100: a notice without an id


def test_explain_of_an_unknown_id_gives_the_nearest(capsys):
    code, _, err = told(capsys, "explain", "activation_checkpoint")

    assert code == 2
    assert "did you mean activation_checkpointing" in err


def test_a_check_never_imports_what_is_heavy(tmp_path):
    """Asked of the interpreter itself, after a check of a real accelerate launch."""
    (tmp_path / "config.json").write_text(json.dumps(TINY_LLAMA))
    (tmp_path / "fsdp.yaml").write_text(FSDP)
    (tmp_path / "train.py").write_text("from trl import SFTTrainer, TrlParser\n")
    script = """
import sys
from preflight.cli import main
code = main(sys.argv[1:])
heavy = {"torch", "transformers", "accelerate", "deepspeed", "peft", "trl", "numpy", "rich",
         "importlib.metadata", "asyncio", "http", "pkg_resources", "shutil"}
print(code, sorted(heavy & set(sys.modules)))
"""
    command = ["accelerate", "launch", "--config_file", "fsdp.yaml", "train.py"]
    command += ["--model_name_or_path", ".", "--per_device_train_batch_size", "1"]
    done = subprocess.run(
        [sys.executable, "-c", script, "check", "--device", "h100-sxm-80", "--", *command],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "0 []"


FSDP = """\
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
mixed_precision: bf16
num_machines: 1
num_processes: 2
"""


def test_a_remedy_of_a_plugin_may_be_named(tmp_path):
    """Where a plugin brings remedies, any name may be one of them."""
    hooks = make(tmp_path) / "preflight_hooks.py"
    hooks.write_text(
        hooks.read_text() + "\n\n@hookimpl\ndef preflight_remedies(plan):\n    return []\n"
    )
    command = ("check", "--device", "tiny:0.25", "--forbid", "ours", "--", *launch(1))

    assert preflight(tmp_path, *command).returncode == 0
