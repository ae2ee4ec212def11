"""The version of every library that a launch will have, with who says so.

Asked in this order: the user; the environment that the launch names or somebody activated; an exact pin of the
repository; the environment that is found here, where the repository allows what it has. Of a launch that starts on
this machine, what is found here comes before the pins. Where nobody says a version, the newest that the repository
allows is taken, and every other one that it allows may be it (preflight/libraries/candidates.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cached_property

from preflight.command import LaunchCommand
from preflight.libraries.distributions import versions_in
from preflight.libraries.environments import Environment, environment_of
from preflight.libraries.pins import Pinned, pinned_libraries
from preflight.libraries.requirement import LIBRARIES
from preflight.plan_parts import LibraryVersion, Origin
from preflight.values import dataclass
from preflight.versions.installed import KNOWN_VERSIONS, installed_versions

HERE = "installed here"
"""Origin of a version of the Python that preflight runs in."""


@dataclass(frozen=True)
class Libraries:
    """What is known of the libraries of a launch."""

    known: Mapping[str, LibraryVersion] = field(default_factory=dict)
    """Library -> its version, where somebody says it."""
    pinned: Mapping[str, Pinned] = field(default_factory=dict)
    """Library -> what the repository allows of it."""
    unseen: str = ""
    """The environment that the launch names, where this machine does not have it."""

    def is_known(self, name: str) -> bool:
        """Tell whether somebody says the version of a library."""
        return name in self.known and not self.known[name].origin.assumed

    def of(self, name: str) -> LibraryVersion:
        """Return the version that is taken for a library, assumed where nobody says it."""
        known = self.known.get(name)
        if known is not None:
            return known
        version = self.sets[-1].get(name) or KNOWN_VERSIONS.get(name, "")
        return LibraryVersion(version, Origin(f"{name} {version}", True, self._reason(name)))

    def version(self, name: str) -> str:
        """Return the version that is taken for a library; empty where nothing is known of it."""
        return self.of(name).version

    @cached_property
    def sets(self) -> tuple[Mapping[str, str], ...]:
        """The sets of versions that the launch may have, the one that is taken last."""
        from preflight.libraries.candidates import version_sets  # most launches say what they have

        exact = {name: known.version for name, known in self.known.items()}
        return version_sets(exact, self.pinned)

    def sets_of(self, names: Sequence[str]) -> tuple[Mapping[str, str], ...]:
        """Return the sets of some libraries, without those in which nothing differs that memory depends on."""
        from preflight.libraries.candidates import unlike

        return unlike([{n: one[n] for n in names if n in one} for one in self.sets])

    def _reason(self, name: str) -> str:
        if name in self.pinned:
            pin = self.pinned[name]
            return f"{pin.where} asks for {name} {pin}"
        if self.unseen:
            return f"{self.unseen} is not on this machine"
        return f"{name} is not installed here, and nothing says which one the launch will have"


def assumed_libraries(versions: Mapping[str, str]) -> Libraries:
    """Return libraries of which nobody says the versions."""
    nobody = Origin("nobody", True)
    return Libraries({name: LibraryVersion(v, nobody) for name, v in versions.items()})


def libraries_of(command: LaunchCommand) -> Libraries:
    """Return what is known of the libraries that a launch will have."""
    known = {name: said for name, said in command.versions.items() if not said.origin.assumed}
    environment = environment_of(command)
    found = _installed(environment)
    pinned = pinned_libraries(command)
    is_certain = command.starts_here or (environment is not None and environment.is_named)
    for name, version in found.items() if is_certain else ():
        known.setdefault(name, version)
    for name, pin in pinned.items():
        if pin.exact is not None:
            known.setdefault(name, LibraryVersion(pin.exact, Origin(pin.where)))
    for name, version in found.items():
        if name not in pinned or pinned[name].allows(version.version):
            known.setdefault(name, version)
    for name, said in command.versions.items():
        known.setdefault(name, said)
    unseen = environment is not None and environment.is_named and not environment.folders
    bounds = {name: pin for name, pin in pinned.items() if name not in known}
    return Libraries(known, bounds, environment.name if unseen and environment is not None else "")


def _installed(environment: Environment | None) -> dict[str, LibraryVersion]:
    """Return what an environment has; of the Python that preflight runs in, where the launch's is nowhere here."""
    if environment is not None:
        versions = versions_in(environment.folders, LIBRARIES)
        if environment.is_named or "torch" in versions:
            return _said(versions, environment.name)
    return _said(installed_versions(LIBRARIES), HERE)


def _said(versions: Mapping[str, str], where: str) -> dict[str, LibraryVersion]:
    return {name: LibraryVersion(version, Origin(where)) for name, version in versions.items()}
