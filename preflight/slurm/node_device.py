"""Says what the smallest GPU of this node is: `python -I -m preflight.slurm.node_device`, once on every node, through srun."""

from __future__ import annotations

import json
import os
import sys

from preflight.streams import say


def main() -> int:
    """Print one line of JSON; a node whose driver shows nothing has no `name`."""
    from preflight.errors import PreflightError
    from preflight.launch import LaunchPlan
    from preflight.node.network import host_name
    from preflight.plugins import load_plugins

    said: dict[str, object] = {"preflight_node": host_name(dict(os.environ))}
    try:
        plugins = load_plugins(os.getcwd())
        device = plugins.first("preflight_describe_device", plan=LaunchPlan(device="auto"))
    except PreflightError as error:
        said["problem"] = str(error).splitlines()[0]
    else:
        if device is not None:
            said.update(
                name=device.name,
                key=device.key,
                capacity_bytes=device.capacity_bytes,
                count=device.count,
            )
    say(json.dumps(said) + "\n", sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
