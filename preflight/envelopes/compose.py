"""A file of Docker Compose: the words of each service's `entrypoint` and `command`, with the GPUs that it reserves.

Source: the Compose specification, 05-services.md (command, entrypoint, environment, gpus) and deploy.md
(resources.reservations.devices), as Docker Compose 2.40 reads it: `$$` is a dollar that the
container gets. A card is named nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.devices.cloud_names import bounded, count_of
from preflight.envelopes.contract import Job, Part
from preflight.envelopes.texts import Sheet, variables, words_as_text

DEVICES = ("deploy", "resources", "reservations", "devices")
FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
"""Names that Compose looks for where none is given, the first that is there."""


def compose_parts(sheet: Sheet) -> Iterator[Part]:
    """Yield what the services of a file start; nothing for a file of another kind."""
    services = sheet.document.value.get("services")
    for name, service in services.items() if isinstance(services, Mapping) else ():
        if isinstance(service, Mapping) and ("image" in service or "build" in service):
            yield from _service(sheet, str(name), service)


def _service(sheet: Sheet, name: str, service: Mapping[str, object]) -> Iterator[Part]:
    gpus, at = _gpus(service)
    job = Job(f"Compose service {name}", sheet.where("services", name, *at), None, gpus)
    env = {**variables(service.get("environment")), **job.variables}
    words = ("entrypoint", "command")
    named = [(("services", name, word), service[word]) for word in words if service.get(word)]
    for block in words_as_text(sheet, named, env):
        yield Part(replace(block, text=block.text.replace("$$", "$")), job)


def _gpus(service: Mapping[str, object]) -> tuple[int | None, tuple[str, ...]]:
    """Return the GPUs that a service reserves, None where it may have all, and where that stands."""
    devices: object = service
    for key in DEVICES:
        devices = devices.get(key) if isinstance(devices, Mapping) else None
    asked, at = (devices, DEVICES) if devices is not None else (service.get("gpus"), ("gpus",))
    total = 0
    for one in asked if isinstance(asked, list) else ():
        ids = one.get("device_ids") if isinstance(one, Mapping) else None
        count = one.get("count") if isinstance(one, Mapping) else None
        number = len(ids) if isinstance(ids, list) else bounded(count_of(count))
        if number is None:
            return None, at
        total += number
    return (total or None), at if asked is not None else ()
