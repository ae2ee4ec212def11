"""Cells of a notebook, run by a real kernel: what a report, a comparison and a refusal show there."""

from __future__ import annotations

import sys
from typing import Any

import nbclient
import nbformat
import pytest

PLAN = """\
import preflight

plan = preflight.LaunchPlan(
    model="Qwen/Qwen2.5-0.5B", micro_batch_size=1, seq_len=1024, mixed_precision="bf16",
    activation_checkpointing="full", optimizer="adamw_torch_fused", loss="full_logits",
)
"""
CELLS = (
    PLAN,
    "preflight.check(plan, device='rtx4090-24')",
    "preflight.compare(plan, plan.with_edits({'seq_len': 512}), device='rtx4090-24')",
    "print(preflight.check(plan, device='t4-16').text)",
    "preflight.check(plan.with_edits({'engine': 'fsdp3'}), device='t4-16')",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[Any]]:
    """Return the outputs of every cell; the kernel is started once, in this Python, with no settings of a user."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            patch.setenv(name, str(folder / name.lower()))
        book = nbformat.v4.new_notebook()
        book.cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
        client = nbclient.NotebookClient(
            book, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": folder}}
        )
        client.km = manager_of(sys.executable)
        client.execute()
    return [cell.outputs for cell in book.cells]


def manager_of(python: str) -> Any:
    """Return what starts the kernel of a Python, without a kernel spec that somebody has to install."""
    from jupyter_client.asynchronous.client import AsyncKernelClient
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    manager = AsyncKernelManager(client_factory=AsyncKernelClient)
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=argv, display_name="tests", language="python")
    return manager


def test_a_report_shows_its_verdict_its_phases_and_its_text_as_html(outputs):
    (shown,) = outputs[1]

    assert shown.output_type == "execute_result"
    assert "fits. Peak" in shown.data["text/html"] and "<details>" in shown.data["text/html"]
    assert "headroom: " in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("<Report: fits: ")
    assert len(shown.data["text/plain"]) < 200


def test_a_comparison_shows_what_differs(outputs):
    (shown,) = outputs[2]

    assert "seq_len" in shown.data["text/html"] and "1024" in shown.data["text/html"]
    assert shown.data["text/plain"].startswith("<Comparison: ")


def test_the_text_is_what_the_command_prints(outputs):
    (printed,) = outputs[3]

    assert printed.name == "stdout" and printed.text.startswith("preflight: ")
    assert "\x1b" not in printed.text


def test_what_cannot_be_is_an_error_that_says_what_can(outputs):
    (refused,) = outputs[4]

    assert refused.output_type == "error" and refused.ename == "BadInput"
    assert "fsdp3" in refused.evalue and "fsdp2" in "\n".join(refused.traceback)
