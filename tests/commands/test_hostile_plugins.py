"""Plugins that exit, raise what is no Exception, or hang: each is named, in every door, and no launch is lost in silence."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toy import HOOKS, WORKER, launch, preflight

HEAD = "from preflight.hookspecs import hookimpl\n"
HOOK = HEAD + "@hookimpl\ndef preflight_findings(plan):\n    {body}\n    return []\n"
EXITS = {
    "at import": (HEAD + "import sys\nsys.exit(0)\n", "import", "SystemExit: 0"),
    "in a hook": (
        HOOK.format(body="import sys; sys.exit(0)"),
        "preflight_findings",
        "SystemExit: 0",
    ),
    "in a generator": (
        HEAD
        + "@hookimpl\ndef preflight_findings(plan):\n    yield from ()\n    raise SystemExit(0)\n",
        "preflight_findings",
        "SystemExit: 0",
    ),
    "base exception": (
        HEAD + "class Odd(BaseException): pass\n"
        "@hookimpl\ndef preflight_findings(plan):\n    raise Odd('of its own')\n",
        "preflight_findings",
        "Odd: of its own",
    ),
    "generator exit": (
        HOOK.format(body="raise GeneratorExit"),
        "preflight_findings",
        "GeneratorExit: ",
    ),
    "words that fail": (
        HEAD + "class Odd(Exception):\n    def __str__(self): raise SystemExit(0)\n"
        "@hookimpl\ndef preflight_findings(plan):\n    raise Odd\n",
        "preflight_findings",
        "Odd",
    ),
}
HANGS = {
    "sleeps": HOOK.format(body="import time; time.sleep(1000)"),
    "computes": HOOK.format(body="\n    while True: pass"),
    "swallows": HOOK.format(
        body="import time\n    while True:\n        try: time.sleep(1000)\n        except BaseException: pass"
    ),
    "waits for a pipe": HOOK.format(body="import os; os.mkfifo('p'); open('p')"),
    "a little every time": HOOK.replace(
        "preflight_findings(plan)", "preflight_memory_terms(plan)"
    ).format(body="import time; time.sleep(0.4)"),
    "at import": HEAD + "import time\ntime.sleep(1000)\n",
}
SHORT = {"PREFLIGHT_PLUGIN_TIMEOUT": "1"}
PATIENCE_S = 20.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "worker.py").write_text(WORKER)
    (tmp_path / "toy_hooks.py").write_text(HOOKS)
    (tmp_path / "preflight.toml").write_text('device = "tiny:0.25"\nhooks = ["toy_hooks.py"]\n')
    return tmp_path


WAY_ON = "next: nothing was started; PREFLIGHT=off starts it unchecked"


@pytest.mark.parametrize(("source", "hook", "reason"), EXITS.values(), ids=EXITS)
def test_a_plugin_that_exits_is_named_by_run_and_nothing_starts(folder, source, hook, reason):
    (folder / "preflight_hooks.py").write_text(source)
    done = preflight(folder, "run", "--", *launch(1))
    checked = preflight(folder, "check", "--", *launch(1))

    first = f"preflight: plugin {folder}/preflight_hooks.py failed in {hook}: {reason}"
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.splitlines()[0] == first
    assert done.stderr.splitlines()[-1] == WAY_ON
    assert (checked.returncode, checked.stderr.splitlines()[0]) == (3, first)


@pytest.mark.parametrize("source", HANGS.values(), ids=HANGS)
def test_a_plugin_that_hangs_is_given_up_by_name(folder, source):
    (folder / "preflight_hooks.py").write_text(source)
    started = time.monotonic()
    # Does not fit: the search calls its hooks again and again.
    done = preflight(folder, "run", "--", *launch(4), **SHORT)

    assert time.monotonic() - started < PATIENCE_S
    assert (done.returncode, done.stdout) == (78, "")
    assert f"plugin {folder}/preflight_hooks.py failed in " in done.stderr
    assert "no answer within 1 s; PREFLIGHT_PLUGIN_TIMEOUT=SECONDS waits longer" in done.stderr
    assert done.stderr.splitlines()[-1] == WAY_ON


def test_a_limit_that_is_no_number_is_bad_input_and_0_is_no_limit(folder):
    wrong = preflight(folder, "check", "--", *launch(1), PREFLIGHT_PLUGIN_TIMEOUT="soon")
    none = preflight(folder, "check", "--", *launch(1), PREFLIGHT_PLUGIN_TIMEOUT="0")

    assert wrong.returncode == 2
    assert "must be seconds, or 0 for no limit, not 'soon'" in wrong.stderr
    assert none.returncode == 0


@pytest.mark.parametrize(
    "source",
    [EXITS["at import"][0], EXITS["in a hook"][0], HANGS["sleeps"]],
    ids=["import", "hook", "hang"],
)
def test_a_job_is_submitted_and_the_plugin_named(folder, source):
    source = source.replace("preflight_findings(plan)", "preflight_read_launch(command)")
    (folder / "preflight_hooks.py").write_text(source.replace("return []", "return None"))
    (folder / "bin").mkdir()
    sbatch = folder / "bin" / "sbatch"
    sbatch.write_text('#!/bin/sh\necho "$@" > submitted\nexit 5\n')
    sbatch.chmod(0o755)
    (folder / "job.sh").write_text("#!/bin/bash\n#SBATCH --gres=gpu:1\ntorchrun train.py\n")
    path = f"{folder / 'bin'}:/usr/bin:/bin"
    done = preflight(folder, "sbatch", "job.sh", PATH=path, **SHORT)

    assert (done.returncode, (folder / "submitted").read_text()) == (5, "job.sh\n")
    assert done.stderr == "" or "submitted unchecked" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "source",
    [EXITS["at import"][0], EXITS["in a hook"][0], HANGS["sleeps"]],
    ids=["import", "hook", "hang"],
)
def test_a_guard_lets_the_launch_start_and_says_so(folder, source):
    """As the file of `preflight guard --install` does at start-up, in the interpreter of the launch itself."""
    (folder / "preflight_hooks.py").write_text(source)
    (folder / "worker.py").write_text(f"# import torch\n{WORKER}")
    code = (
        "import sys, runpy; sys.orig_argv = [sys.executable, *sys.argv[1:]]\n"
        "from preflight.embedded.guard_doors import at_startup\n"
        "at_startup()\nsys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *launch(1)[1:]],
        cwd=folder,
        env={**os.environ, "PREFLIGHT": "enforce", **SHORT},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 7, done.stderr
    assert f"preflight: not checked: plugin {folder}/preflight_hooks.py failed in " in done.stderr
    assert done.stderr.splitlines()[-1] == "next: the launch starts unchecked"


@pytest.mark.parametrize("source", [EXITS["in a hook"][0], HANGS["sleeps"]], ids=["exits", "hangs"])
def test_before_launch_raises_what_names_the_plugin(folder, source):
    (folder / "preflight_hooks.py").write_text(source)
    code = (
        "import sys, preflight\n"
        "try:\n    preflight.before_launch(sys.argv[1:])\n"
        "except preflight.HookFailed as error:\n    print(error.plugin); sys.exit(9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *launch(1)],
        cwd=folder,
        env={**os.environ, **SHORT},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (9, f"{folder}/preflight_hooks.py\n"), done.stderr
