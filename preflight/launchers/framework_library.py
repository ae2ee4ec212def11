"""A framework in the release that a launch will have: whose keys these are, and whose defaults hold."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.libraries.distributions import normalized
from preflight.libraries.resolve import libraries_of
from preflight.setting import Place
from preflight.values import dataclass
from preflight.versions.boundary import release


@dataclass(frozen=True)
class FrameworkLibrary:
    """Whose keys these are, and whose defaults hold."""

    name: str
    """axolotl or LLaMA-Factory, as a person says it."""
    version: str
    is_known: bool = False
    """Whether somebody says the version."""
    folder: str = ""
    """Where the launch runs; a copy of the framework's source may be there."""
    key: str = ""
    """Its name as a plan's `versions` has it."""
    packages: tuple[str, ...] = ()
    """The names that its package has had."""

    @classmethod
    def of(
        cls,
        name: str,
        command: LaunchCommand,
        newest: str,
        library: str = "",
        packages: tuple[str, ...] = (),
    ) -> FrameworkLibrary:
        """Return a framework in the version that a launch will have; the newest that is known where nobody says it.

        `library` is its name as a plan's `versions` has it, where that does not follow from what a person says;
        `packages` are names of its package where that is another, or has been.
        """
        libraries = libraries_of(command)
        library = library or normalized(name.replace("-", ""))
        is_known = libraries.is_known(library)
        return cls(
            name,
            libraries.version(library) if is_known else newest,
            is_known,
            command.cwd,
            library,
            packages or (library,),
        )

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    def is_before(self, version: str) -> bool:
        """Tell whether the release is older than one."""
        return release(self.version) < release(version)

    @property
    def default_place(self) -> Place:
        """Where a value stands that the framework has by itself."""
        return Place("default", "", self.label)

    @property
    def versions(self) -> dict[str, str]:
        """Return its release as a plan's `versions` has it."""
        return {self.key: self.version}
