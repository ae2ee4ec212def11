"""The fixture `assert_fits`, for tests that hold a repository's launches to its devices. pytest finds it by itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from preflight.report import Report


def pytest_configure(config: Any) -> None:
    """Register the fixture; nothing is imported until a test asks for it."""
    import pytest

    class Fixtures:
        """Fixtures of preflight."""

        @pytest.fixture
        def assert_fits(self, pytestconfig: Any) -> Callable[..., list[Report]]:
            """Fail unless every launch of a file fits: `assert_fits("configs/sft.sh", device="h100-sxm-80")`."""
            root = str(pytestconfig.rootpath)

            def check(
                launch: str | os.PathLike[str] | Sequence[str],
                *,
                device: str | None = None,
                settings: Mapping[str, Any] | None = None,
                policy: Mapping[str, Any] | None = None,
                allow_tight: bool = True,
                cwd: str | os.PathLike[str] | None = None,
            ) -> list[Report]:
                __tracebackhide__ = True
                folder = root if cwd is None else os.path.join(root, os.fspath(cwd))
                return fitting(launch, folder, device, settings, policy, allow_tight)

            return check

    config.pluginmanager.register(Fixtures(), "preflight-fixtures")


def fitting(
    launch: str | os.PathLike[str] | Sequence[str],
    folder: str,
    device: str | None = None,
    settings: Mapping[str, Any] | None = None,
    policy: Mapping[str, Any] | None = None,
    allow_tight: bool = True,
) -> list[Report]:
    """Return the reports of the launches of a file, or of argv; raise AssertionError where one does not fit."""
    from preflight.api import check, policy_of, report_text
    from preflight.plugins import load_plugins
    from preflight.repository.settings import find_repository
    from preflight.request import Request
    from preflight.studies.scan import scan_files

    __tracebackhide__ = True
    if not isinstance(launch, (str, os.PathLike)):
        report = check(launch, device=device, settings=settings, policy=policy, cwd=folder)
        _assert_fits(report, "the launch", allow_tight, report_text)
        return [report]
    path = os.fspath(launch)
    if not os.path.isfile(os.path.join(folder, path)):
        raise AssertionError(f"there is no file {path} in {folder}")
    repository = find_repository(folder)
    request = Request(
        device, dict(settings or {}), policy_of(policy, repository), repository=repository
    )
    plugins = load_plugins(folder, project_files=repository.hooks)
    reports = []
    for scanned in scan_files([path], folder, plugins, request, repository.flags):
        if scanned.report is None:
            why = scanned.untold or "\n".join(str(problem) for problem in scanned.problems)
            raise AssertionError(f"{scanned.where} was not checked: {why}")
        _assert_fits(scanned.report, scanned.where, allow_tight, report_text)
        reports.append(scanned.report)
    if not reports:
        raise AssertionError(f"no launch stands in {path}")
    return reports


def _assert_fits(
    report: Report, where: str, allow_tight: bool, text_of: Callable[[Report, str], str]
) -> None:
    """Unknown is no answer: a test that cannot tell has to fail."""
    __tracebackhide__ = True
    answer = report.verdict.answer.value
    if answer != "fits" and not (answer == "tight" and allow_tight):
        # pytest's own summary shows the first line alone.
        raise AssertionError(text_of(report, "check").replace("preflight", where, 1))
