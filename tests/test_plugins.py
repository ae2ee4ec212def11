"""Who is registered, in which order they are asked, and who is named when something breaks."""

from __future__ import annotations

import types
from pathlib import Path

import pytest

from preflight.builtin_hooks import BUILTIN_HOOKS, FIRST_WORDS
from preflight.device import DeviceSpec
from preflight.errors import BadInput, HookFailed
from preflight.finding import Finding
from preflight.hooks.read_launch import PLUGINS
from preflight.hookspecs import hookimpl
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm
from preflight.model import ModelSpec
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins

HOOKS = Path(__file__).parent.parent / "hooks"


def plugin(**functions):
    """A module with these functions, marked as hooks."""
    module = types.ModuleType("a_plugin")
    for name, function in functions.items():
        setattr(module, name, hookimpl(function))
    return module


def manager(**plugins) -> PluginManager:
    made = PluginManager()
    for name, registered in plugins.items():
        made.register(registered, name)
    return made


def tiny_model() -> ModelSpec:
    return ModelSpec("tiny", {}, "llama", 8, 16, 0, units=())


def term(name: str) -> MemoryTerm:
    return MemoryTerm(name, 1, ALWAYS)


def test_a_misspelt_hook_is_an_error_that_names_the_plugin_and_the_nearest_hook(tmp_path):
    source = "from preflight.hookspecs import hookimpl\n@hookimpl\ndef preflight_memory_term(plan): ...\n"
    (tmp_path / "preflight_hooks.py").write_text(source)

    with pytest.raises(HookFailed) as failed:
        load_plugins(str(tmp_path), builtins=())

    assert "did you mean preflight_memory_terms?" in str(failed.value)
    assert str(tmp_path / "preflight_hooks.py") in str(failed.value)


def test_a_function_named_like_a_hook_and_not_marked_is_an_error(tmp_path):
    (tmp_path / "preflight_hooks.py").write_text("def preflight_remedies(plan): return []\n")

    with pytest.raises(HookFailed, match="preflight_remedies is not marked with @hookimpl"):
        load_plugins(str(tmp_path), builtins=())


def test_an_argument_that_the_hook_does_not_have_is_an_error_that_names_it():
    def preflight_remedies(plan, modle): ...

    with pytest.raises(HookFailed, match=r"plugin wrong failed in registration.*modle"):
        manager(wrong=plugin(preflight_remedies=preflight_remedies))


def test_a_plugin_takes_only_the_arguments_it_reads():
    found = manager(
        one=plugin(preflight_memory_terms=lambda model: [term(model.name)]),
        two=plugin(preflight_memory_terms=lambda: [term("nothing read")]),
    ).collect("preflight_memory_terms", plan=LaunchPlan(), model=tiny_model())

    assert [(owner, item.name) for owner, item in found] == [
        ("one", "tiny"),
        ("two", "nothing read"),
    ]


def failing_call(plan):
    raise KeyError("fsdp_config")


def failing_generator(plan):
    yield term("the first is fine")
    raise ZeroDivisionError("no ranks")


@pytest.mark.parametrize("function", [failing_call, failing_generator])
def test_a_failing_plugin_is_named_among_others(function):
    """Also where it fails halfway through a generator, long after its call returned."""
    plugins = manager(
        before=plugin(preflight_memory_terms=lambda plan: [term("before")]),
        guilty=plugin(preflight_memory_terms=function),
        after=plugin(preflight_memory_terms=lambda plan: [term("after")]),
    )

    with pytest.raises(HookFailed) as failed:
        plugins.collect("preflight_memory_terms", plan=LaunchPlan(), model=tiny_model())

    assert failed.value.plugin == "guilty"
    assert failed.value.hook == "preflight_memory_terms"


def test_two_plugins_made_from_one_function_are_told_apart():
    """The name comes from who was called, not from whose code it is."""

    def preflight_memory_terms(plan):
        return 5

    plugins = manager(
        first=plugin(preflight_memory_terms=lambda plan: []),
        second=plugin(preflight_memory_terms=preflight_memory_terms),
    )

    with pytest.raises(HookFailed, match=r"plugin second failed .* not a list of values"):
        plugins.collect("preflight_memory_terms", plan=LaunchPlan(), model=tiny_model())


def test_what_a_user_can_fix_keeps_its_own_error():
    def preflight_describe_model(plan):
        raise BadInput.one("config.json has no vocab_size", "config.json")

    plugins = manager(registry=plugin(preflight_describe_model=preflight_describe_model))

    with pytest.raises(BadInput, match="has no vocab_size"):
        plugins.first("preflight_describe_model", plan=LaunchPlan())


def test_two_terms_with_one_name_are_an_error_that_names_both_plugins():
    plugins = manager(
        ours=plugin(preflight_memory_terms=lambda plan: [term("gradients")]),
        theirs=plugin(preflight_memory_terms=lambda plan: [term("gradients")]),
    )

    with pytest.raises(HookFailed) as failed:
        estimate_memory(LaunchPlan(), tiny_model(), None, plugins)

    assert failed.value.plugin == "theirs"
    assert "'gradients'" in failed.value.reason
    assert "from ours" in failed.value.reason


def test_an_item_of_another_kind_is_an_error_that_names_its_plugin():
    plugins = manager(
        fine=plugin(preflight_memory_terms=lambda plan: [term("a")]),
        wrong=plugin(preflight_memory_terms=lambda plan: [{"name": "b"}]),
    )

    with pytest.raises(HookFailed, match=r"plugin wrong failed .* not a MemoryTerm"):
        estimate_memory(LaunchPlan(), tiny_model(), None, plugins)


def test_the_last_registered_is_asked_first_and_none_passes_on():
    asked = []

    def answers(name, answer):
        def preflight_describe_device(plan):
            asked.append(name)
            return answer

        return plugin(preflight_describe_device=preflight_describe_device)

    device = DeviceSpec("second", 1)
    plugins = manager(
        first=answers("first", DeviceSpec("first", 1)),
        second=answers("second", device),
        third=answers("third", None),
    )

    assert plugins.first("preflight_describe_device", plan=LaunchPlan()) is device
    assert asked == ["third", "second"]


def test_a_project_beats_the_built_ins_and_leaves_no_bytecode_behind(tmp_path):
    source = """\
from preflight.device import DeviceSpec
from preflight.hookspecs import hookimpl


@hookimpl
def preflight_describe_device(plan):
    return DeviceSpec("the project's own", 4096)
"""
    (tmp_path / "preflight_hooks.py").write_text(source)
    plugins = load_plugins(str(tmp_path))
    plan = LaunchPlan(device="h100-sxm-80")

    assert plugins.first("preflight_describe_device", plan=plan).name == "the project's own"
    assert plugins.plugins_of("preflight_describe_device")[0].endswith("preflight_hooks.py")
    assert len(plugins.plugins_of("preflight_describe_device")) > 1
    assert [path.name for path in tmp_path.iterdir()] == ["preflight_hooks.py"]


def test_a_project_file_that_cannot_be_imported_is_named(tmp_path):
    (tmp_path / "preflight_hooks.py").write_text("import a_module_that_is_not_there\n")

    with pytest.raises(HookFailed, match=r"preflight_hooks.py failed in import: ModuleNotFound"):
        load_plugins(str(tmp_path), builtins=())


def test_a_reported_hook_reaches_every_plugin():
    seen = []
    plugins = manager(
        one=plugin(preflight_reported=lambda report: seen.append("one")),
        two=plugin(preflight_reported=lambda report: seen.append("two")),
    )
    plugins.tell("preflight_reported", report=None)

    assert seen == ["two", "one"]


def test_a_trace_prints_every_call_with_its_plugin_and_its_answer(monkeypatch, capsys):
    monkeypatch.setenv("PREFLIGHT_TRACE", "1")
    plugins = manager(
        table=plugin(preflight_describe_device=lambda plan: DeviceSpec("T4", 16)),
        driver=plugin(preflight_describe_device=lambda plan: None),
        ours=plugin(preflight_memory_terms=lambda plan: iter([term("a"), term("b")])),
    )
    plugins.first("preflight_describe_device", plan=LaunchPlan())
    plugins.collect("preflight_memory_terms", plan=LaunchPlan(), model=tiny_model())
    lines = capsys.readouterr().err.splitlines()

    assert lines[0] == "preflight: trace: preflight_describe_device driver -> None"
    assert lines[1].startswith("preflight: trace: preflight_describe_device table -> DeviceSpec(")
    assert lines[-1] == "preflight: trace: preflight_memory_terms ours yielded 2"


def test_every_file_with_a_hook_is_a_built_in():
    """Adding a fact is one file in hooks/ and its line in BUILTIN_HOOKS; a launcher is one of those of read_launch.py."""
    files = {path.stem for path in HOOKS.glob("*.py") if "import hookimpl" in path.read_text()}
    files = {*files - {"read_launch"}, *PLUGINS}
    missing = sorted(files - set(BUILTIN_HOOKS))
    gone = sorted(set(BUILTIN_HOOKS) - files)

    assert not missing, f"add to BUILTIN_HOOKS in preflight/builtin_hooks.py: {missing}"
    assert not gone, f"no file in hooks/ for these lines of BUILTIN_HOOKS: {gone}"


@pytest.mark.parametrize("name", BUILTIN_HOOKS)
def test_a_built_in_implements_the_hook_of_its_first_word_and_no_other(name):
    """Its module is imported only when one of those hooks is called."""
    allowed = set(FIRST_WORDS[name.partition("_")[0]])
    module = load_plugins(builtins=(name,))
    implemented = {
        hook for hooks in FIRST_WORDS.values() for hook in hooks if name in module.plugins_of(hook)
    }
    import importlib

    plugin = PLUGINS.get(name) or importlib.import_module(f"preflight.hooks.{name}")
    written = {each for each in dir(plugin) if hasattr(getattr(plugin, each), "preflight_impl")}

    assert implemented == written
    assert written and written <= allowed


FINDING = Finding("OURS1", "ours", "info", "words")


def before_estimate(plan, model, device):
    return [FINDING]


def with_estimate(plan, estimate):
    return [FINDING]


def of_nothing():
    return [FINDING]


@pytest.mark.parametrize("check", [before_estimate, with_estimate, of_nothing])
def test_a_check_takes_what_it_reads_whichever_arguments_the_hook_got_later(check):
    """A plugin from before `estimate` keeps working, and so does a caller from before it."""
    plugins = manager(ours=plugin(preflight_findings=check))
    call = {"plan": LaunchPlan(), "model": None, "device": None}

    assert plugins.collect("preflight_findings", **call) == [("ours", FINDING)]
    assert plugins.collect("preflight_findings", **call, estimate=None) == [("ours", FINDING)]
