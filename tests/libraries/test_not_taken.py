"""PF151: calls and imports of a script at which the release that it has stops."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.launchers.making import lacking
from preflight.libraries.resolve import libraries_of
from preflight.libraries.ruled_out import not_taken
from preflight.plugins import load_plugins
from preflight.versions.installed import installed_versions

STOPPED = [
    ("from trl import SFTConfig\nSFTConfig('out', max_seq_length=8)\n", TypeError, "SFTConfig(max_seq_length=)"),
    ("from transformers import TrainingArguments\nTrainingArguments('out', warmup_ratio=0.1)\n", TypeError, "TrainingArguments(warmup_ratio=)"),
    ("from trl import DataCollatorForCompletionOnlyLM\n", ImportError, "from trl import DataCollatorForCompletionOnlyLM"),
    ("from peft import prepare_model_for_int8_training\n", ImportError, "from peft import prepare_model_for_int8_training"),
    ("from trl import SFTConfig\nSFTConfig('out', max_length=8, use_cpu=True)\n", None, ""),
    ("from trl import GRPOConfig, GRPOTrainer\n", None, ""),
]  # fmt: skip


def command(folder, text: str) -> LaunchCommand:
    (folder / "train.py").write_text(text)
    return LaunchCommand(("torchrun", "--nproc_per_node", "2", "train.py"), {}, str(folder))


@pytest.mark.parametrize(("text", "error", "words"), STOPPED)
def test_what_the_installed_release_lacks_stops_the_script(text, error, words, tmp_path):
    """The script is run as it stands: it dies exactly where that is said."""
    pytest.importorskip("trl")
    pytest.importorskip("peft")
    found = list(
        not_taken(command(tmp_path, text), installed_versions(("transformers", "trl", "peft")))
    )

    assert [each.words for each in found] == [words] * bool(words)
    if error is None:
        exec(compile(text, "train.py", "exec"), {})
        return
    with pytest.raises(error) as stopped:
        exec(compile(text, "train.py", "exec"), {})
    assert stopped.traceback[-1].lineno + 1 == found[0].line or error is TypeError


@pytest.mark.parametrize(
    ("pin", "text", "message", "fix"),
    [
        ("trl==0.9.6", "from trl import SFTConfig\nSFTConfig(max_length=8)\n", "SFTConfig(max_length=): trl 0.9.6 does not have it yet", "trl>=0.16.0"),
        ("trl==0.29.0", "from trl import GKDConfig\n", "from trl import GKDConfig: trl 0.29.0 does not have it any more", "trl>=0.11.0,<0.29.0"),
        # nobody says the release: then it is one that has it
        ("trl", "from trl import GKDConfig\n", "", ""),
        ("trl==0.9.6", "from trl import SFTConfig\ntry:\n    SFTConfig(max_length=8)\nexcept TypeError:\n    pass\n", "", ""),
    ],
)  # fmt: skip
def test_a_pin_says_the_release(pin, text, message, fix, tmp_path):
    (tmp_path / "requirements.txt").write_text(pin)
    launch = command(tmp_path, text)
    found = list(lacking(launch, libraries_of(launch)))

    assert len(found) == bool(message)
    for problem in found:
        assert problem.message.startswith(message) and problem.fix.startswith(fix)
        assert problem.where.startswith("train.py:") and problem.severity == "warning"


def test_a_launch_is_told_of_it(tmp_path):
    (tmp_path / "requirements.txt").write_text("trl==0.9.6\ntransformers==4.44.2\n")
    launch = command(
        tmp_path,
        "from trl import SFTConfig, SFTTrainer\nSFTTrainer('m', args=SFTConfig(max_length=8)).train()\n",
    )
    plan = load_plugins().first("preflight_read_launch", command=launch)

    (notice,) = (each for each in plan.notices if each.id == "PF151")
    assert notice.where == "train.py:2"
    # what fits in that release says nothing of the one that will run
    assert notice.unpriced == "a release of trl that has SFTConfig(max_length=)"
    assert notice.takes == "either"


def test_a_model_that_the_installed_release_does_not_know_stops_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text('{"model_type": "newer_than_this_release"}')

    with pytest.raises(ValueError, match="does not recognize this architecture"):
        transformers.AutoConfig.from_pretrained(str(tmp_path))


PARSES = "from trl import SFTConfig, TrlParser\nparser = TrlParser((SFTConfig,{own}))\n{more}"


@pytest.mark.parametrize(
    ("own", "flag", "words"),
    [
        ("", "--max_seq_length", "--max_seq_length"),
        ("", "--max_length", ""),
        ("Mine,", "--max_seq_length", ""),  # it may be one of its own
    ],
)
def test_a_flag_that_the_installed_parser_lacks_stops_the_script(own, flag, words, tmp_path):
    text = PARSES.format(own=own, more="args = parser.parse_args_and_config()\n")
    known = installed_versions(("transformers", "trl"))
    launch = command(tmp_path, text)
    launch = LaunchCommand((*launch.argv, flag, "512"), {}, str(tmp_path))
    assert [each.words for each in not_taken(launch, known)] == [words] * bool(words)
    if own:
        return
    parser: dict[str, object] = {}
    exec(PARSES.format(own="", more=""), parser)
    given = [
        "--output_dir",
        str(tmp_path / "out"),
        "--use_cpu",
        "True",
        "--bf16",
        "False",
        flag,
        "512",
    ]
    if not words:
        parser["parser"].parse_args_and_config(args=given)  # type: ignore[attr-defined]
        return
    with pytest.raises(ValueError, match=flag):
        parser["parser"].parse_args_and_config(args=given)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("version", "is_said"), [("1.9.0", True), ("1.10.0.dev0", True), ("0.20.0.dev0", False), ("0.19.0", False)]
)  # fmt: skip
def test_a_checkout_lacks_what_left_before_the_release_below_it(version, is_said, tmp_path):
    launch = command(
        tmp_path, PARSES.format(own="", more="args = parser.parse_args_and_config()\n")
    )
    launch = LaunchCommand((*launch.argv, "--max_seq_length", "512"), {}, str(tmp_path))
    assert bool(list(not_taken(launch, {"trl": version}))) is is_said
