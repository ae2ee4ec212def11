"""`--online`: the config of a model comes from the hub into its own cache, and nothing else asks a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "torch_dtype": "bfloat16",
    "vocab_size": 96,
}
INDEX = {"metadata": {"total_parameters": 1_000_000}, "weight_map": {}}
NUM_PARAMS = 96 * 64 * 2 + 2 * (4 * 64 * 64 + 3 * 64 * 128 + 2 * 64) + 64
FILES = {
    "/me/fresh/resolve/main/config.json": CONFIG,
    "/Qwen/Qwen3-8B/resolve/main/config.json": CONFIG,
    "/me/odd/resolve/main/config.json": {"model_type": "albert", "torch_dtype": "bfloat16"},
    "/me/odd/resolve/main/model.safetensors.index.json": INDEX,
}
REFUSED = {"/me/gone": (404, "RepoNotFound"), "/me/gated": (403, "GatedRepo")}


class Hub(ThreadingHTTPServer):
    """What huggingface_hub asks a hub for a file, on this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *words: object) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        self.server.tokens.add(self.headers.get("Authorization"))
        body = json.dumps(FILES.get(self.path)).encode()
        status, code = 200, ""
        if self.path not in FILES:
            owner_and_name = self.path.partition("/resolve/")[0]
            status, code = REFUSED.get(owner_and_name, (404, "EntryNotFound"))
            body = b"{}"
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hash(self.path) & 0xFFFFFF:x}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(tmp_path, hub):
    """Run a command in a process of its own, as huggingface_hub reads its variables when it is imported."""

    def run(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hf"), **variables}
        return subprocess.run(
            [sys.executable, "-m", "preflight", *words],
            cwd=tmp_path, env=env, capture_output=True, text=True,
        )  # fmt: skip

    return run


def check(model: str, *options: str) -> tuple[str, ...]:
    launch = f"trl sft --model_name_or_path {model} --dataset_name x --max_length 64"
    return ("check", "--device", "t4-16", "--format", "json", *options, "--", *launch.split())


def test_a_config_comes_into_the_hubs_cache_and_stays_there(ask, hub, tmp_path):
    first = json.loads(ask(*check("me/fresh", "--online")).stdout)
    asked = list(hub.asked)
    again = json.loads(ask(*check("me/fresh", "--online")).stdout)
    repository = tmp_path / "hf" / "hub" / "models--me--fresh"

    assert first["verdict"] == "fits"
    assert first["model"]["num_params"] == again["model"]["num_params"] == NUM_PARAMS
    assert (repository / "refs" / "main").read_text() == COMMIT
    assert json.loads((repository / "snapshots" / COMMIT / "config.json").read_text()) == CONFIG
    files = {path.partition(" ")[2] for path in asked if "/resolve/" in path}
    assert files == {"/me/fresh/resolve/main/config.json"}
    assert hub.asked == asked


def test_without_the_option_no_network_is_asked(ask, hub):
    for model in ("me/fresh", "Qwen/Qwen3-8B", "me/gone"):
        ask(*check(model))
    ask("size", "me/fresh")

    assert hub.asked == []


def test_a_config_of_the_hub_beats_the_registry(ask):
    known = json.loads(ask(*check("Qwen/Qwen3-8B")).stdout)["model"]
    got = json.loads(ask(*check("Qwen/Qwen3-8B", "--online")).stdout)["model"]

    assert known["num_params"] > 8e9
    assert got["num_params"] < 1e6


def test_a_family_without_a_layout_is_counted_by_the_index_of_its_weights(ask):
    report = json.loads(ask(*check("me/odd", "--online")).stdout)

    assert report["model"]["num_params"] == 1_000_000
    assert report["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("model", "said"), [("me/gone", "404"), ("me/gated", "403"), ("me/empty", "config.json")]
)
def test_what_the_hub_does_not_give_is_said_and_stops_nothing(ask, model, said):
    done = ask(*check(model, "--online"))
    report = json.loads(done.stdout)
    (note,) = (note for note in report["notes"] if model in note)

    assert done.returncode == 0
    assert report["verdict"] == "unknown"
    assert said in note


def test_a_hub_that_does_not_answer_is_said_and_stops_nothing(ask, hub):
    hub.shutdown()
    hub.server_close()
    report = json.loads(ask(*check("Qwen/Qwen3-8B", "--online")).stdout)

    assert report["model"]["num_params"] > 8e9
    assert any("could not be downloaded" in note for note in report["notes"])


def test_the_hubs_own_variables_hold(ask, hub):
    ask(*check("me/fresh", "--online"), HF_HUB_OFFLINE="1")
    offline = list(hub.asked)
    ask(*check("me/fresh", "--online"), HF_TOKEN="hf_secret")

    assert offline == []
    assert "Bearer hf_secret" in hub.tokens


def test_a_folder_is_never_asked_for(ask, hub, tmp_path):
    (tmp_path / "me" / "fresh").mkdir(parents=True)
    for model in ("me/fresh", "./me/other", "/me/fresh"):
        ask(*check(model, "--online"))

    assert hub.asked == []


def test_a_worksheet_takes_it_too(ask):
    assert "me/fresh" in ask("size", "me/fresh", "--online").stdout
