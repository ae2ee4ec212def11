"""What Slurm's Lua plugins give a script, for running the guard's files under lupa: no Slurm, no processes."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSIONS = ("lua51", "lua54")
"""Debian's Slurm loads Lua 5.1; EPEL's 5.4."""

STUB = """
said, logged = {}, {}
slurm = {
  SUCCESS = 0, ERROR = -1, ESLURM_REQUESTED_NODE_CONFIG_UNAVAILABLE = 2014,
  log_user = function(...) said[#said + 1] = string.format(...) end,
  log_info = function(...) logged[#logged + 1] = string.format(...) end,
  log_error = function(...) logged[#logged + 1] = "error: " .. string.format(...) end,
  json_cli_options = function(options) return options.json end,
}
io.popen = function(words)
  local text = run(words)
  return { read = function() return text end, close = function() end }
end
"""


def output_of(words: str) -> str:
    """Do what io.popen does, which lupa's Lua is built without."""
    done = subprocess.run(["/bin/sh", "-c", words], stdout=subprocess.PIPE)
    return done.stdout.decode("latin-1")


class LuaGuard:
    """One of the guard's files, loaded as Slurm would."""

    def __init__(self, text: str, version: str = "lua51") -> None:
        runtime: Any = importlib.import_module(f"lupa.{version}").LuaRuntime(encoding="latin-1")
        self.lua = runtime
        runtime.globals().run = output_of
        runtime.execute(STUB)
        runtime.execute(text)

    def submit(self, **job: Any) -> int:
        """Ask the controller's guard; what it set of the job is in `self.job` afterwards."""
        self.job = self._table(job)
        return int(self.lua.globals().slurm_job_submit(self.job, self.lua.table(), 1000))

    def modify(self, before: Mapping[str, Any], uid: int = 1000, **job: Any) -> int:
        self.job = self._table(job)
        record = self._table(before)
        return int(self.lua.globals().slurm_job_modify(self.job, record, self.lua.table(), uid))

    @property
    def said(self) -> list[str]:
        return list(self.lua.globals().said.values())

    @property
    def logged(self) -> list[str]:
        return list(self.lua.globals().logged.values())

    def _table(self, values: Mapping[str, Any]) -> Any:
        return self.lua.table_from(
            {k: self._table(v) if isinstance(v, dict) else v for k, v in values.items()}
        )


def filled(name: str, **values: str) -> str:
    """Return a guard's file with Lua values for its settings."""
    folder = Path(__file__).parents[2] / "templates" / "slurm"
    text = (folder / name).read_text()
    defaults = {"SITE_FILE": "nil", "TIMEOUT_S": "10", "STAMP_OPTION": '"extra"'}
    return re.sub(r"@([A-Z_]+)@", lambda found: {**defaults, **values}[found.group(1)], text)
