"""Stores of many machines, which tests start on this one: an MLflow server, and PostgreSQL."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from conftest import free_port, wait_for


class Server:
    """``mlflow server`` on a port of its own, started and stopped as often as wanted."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
            "--default-artifact-root", "mlflow-artifacts:/", "--artifacts-destination", "artifacts",
        ]  # fmt: skip
        with open(self.folder / "server.log", "a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        up = wait_for(f"{self.uri}/health")
        assert up == b"OK", (self.folder / "server.log").read_text()

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)


class PostgreSQL:
    """A database server on loopback, of a folder of its own.

    Raises:
        FileNotFoundError: where it is not installed.
    """

    def __init__(self):
        # Debian keeps its programs apart from those that are called.
        known = [Path(at).parent for at in [shutil.which("initdb")] if at]
        known += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not known:
            raise FileNotFoundError("PostgreSQL is not installed")
        self.programs = known[-1]
        # Where other users may enter: it does not run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="kernelexp-postgresql-"))
        self.user = "nobody" if os.getuid() == 0 else None
        shutil.chown(self.folder, self.user or os.getuid())
        self.port = free_port()
        self.call("initdb", "--username", "kernelexp", "--auth", "trust", "--no-sync")
        options = f"-h 127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self.call("pg_ctl", "start", "--wait", "--log", f"{self.folder}/log", "--options", options)

    def call(self, program, *arguments):
        command = [self.programs / program, "--pgdata", self.folder, *arguments]
        subprocess.run(
            command, cwd=self.folder, user=self.user, check=True, stdout=subprocess.DEVNULL
        )

    @property
    def uri(self):
        """Of the database that is there from the beginning."""
        return f"postgresql+psycopg://kernelexp@127.0.0.1:{self.port}/postgres"

    def stop(self):
        self.call("pg_ctl", "stop", "--mode", "immediate")
        shutil.rmtree(self.folder)
