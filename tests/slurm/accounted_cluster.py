"""The test cluster with accounts: MariaDB and slurmdbd beside it, in its folder, as sites have them."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess

from cluster import SBIN, Cluster, free_ports

PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb", "mariadb-install-db")
PACKAGES = "slurmdbd slurm-wlm-mysql-plugin mariadb-server"

SLURM_CONF = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={root}/munge/socket
AccountingStoreFlags=job_script
AccountingStorageTRES=gres/gpu
"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={root}/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser={user}
StorageType=accounting_storage/mysql
StorageUser={user}
StorageLoc=slurm
LogFile={root}/log/slurmdbd.log
PidFile={root}/pid/slurmdbd
"""


def missing_programs() -> list[str]:
    """Return what of the accounts this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class AccountedCluster(Cluster):
    """A cluster whose jobs `sacct` knows, scripts included."""

    def accounting_daemons(self) -> dict[str, list[str]]:
        return {
            "mariadbd": [
                self.which("mariadbd"),
                "--no-defaults",
                f"--datadir={self.root / 'accounts'}",
                f"--socket={self._socket}",
                f"--user={getpass.getuser()}",
                "--skip-networking",
            ],
            "slurmdbd": [self.which("slurmdbd"), "-D"],
        }

    def start_accounting(self) -> None:
        # slurmdbd would make its database itself, but its connection is of no use after that with libmariadb 3.4.9.
        self.daemon("start", "mariadbd")
        make = ("mariadb", "--no-defaults", "-S", self._socket, "-e", "create database slurm")
        self.wait(lambda: self.run(*make).returncode == 0, "there is no database")
        self.daemon("start", "slurmdbd")
        add = ("sacctmgr", "-i", "add", "cluster", "preflighttest")
        self.wait(lambda: self.run(*add).returncode == 0, "slurmdbd does not answer")

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a user, and of slurmdbd, whose library finds the database by it."""
        return {**super().environment(**more), "MYSQL_UNIX_PORT": self._socket}

    @property
    def _socket(self) -> str:
        return str(self.root / "accounts.socket")

    def _write_configuration(self) -> None:
        (port,) = free_ports(1)
        facts = {"root": self.root, "port": port, "user": getpass.getuser()}
        self.extra_lines = (SLURM_CONF.format(**facts),)
        super()._write_configuration()
        dbd = self.root / "etc" / "slurmdbd.conf"
        dbd.write_text(SLURMDBD_CONF.format(**facts))
        dbd.chmod(0o600)
        subprocess.run(
            (
                *("mariadb-install-db", "--no-defaults", f"--datadir={self.root / 'accounts'}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
                f"--user={getpass.getuser()}",
            ),
            check=True,
            capture_output=True,
        )
