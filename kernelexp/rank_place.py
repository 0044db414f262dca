"""Which rank this process is, by the environment that torchrun or SLURM has made for it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """One rank among those of a launcher.

    Attributes:
        rank, size: its number and how many there are.
        local_rank, local_size: the same on its machine.
        host, port: where they meet, at rank 0.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    host: str
    port: int

    @classmethod
    def found(cls) -> Place | None:
        """Of this process, by what torchrun or ``srun`` tells it; None where neither started several.

        Raises:
            ValueError: where they tell too little.
        """
        env = os.environ
        if int(env.get("WORLD_SIZE", "1")) > 1 and "RANK" in env:
            missing = [key for key in ("MASTER_ADDR", "MASTER_PORT") if key not in env]
            if missing:
                raise ValueError(f"RANK={env['RANK']}: {missing[0]} must be set with it")
            rank, size = int(env["RANK"]), int(env["WORLD_SIZE"])
            local = int(env.get("LOCAL_RANK", rank)), int(env.get("LOCAL_WORLD_SIZE", size))
            return cls(rank, size, *local, env["MASTER_ADDR"], int(env["MASTER_PORT"]))
        if int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1:  # by srun, not in its script
            rank, size = int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"])
            nodes = int(env.get("SLURM_STEP_NUM_NODES", "1"))
            local = int(env["SLURM_LOCALID"]), -(-size // nodes)
            host = env.get("MASTER_ADDR") or first_host(env["SLURM_STEP_NODELIST"])
            job = int(env["SLURM_JOB_ID"]) + int(env.get("SLURM_STEP_ID", "0"))
            port = int(env.get("MASTER_PORT", 20_000 + job % 20_000))
            return cls(rank, size, *local, host, port)
        return None


def first_host(nodes: str) -> str:
    """The first name of a list of SLURM's: ``gpu[03-04,7],cpu1`` begins with gpu03."""
    prefix, numbers = re.match(r"([^\[,]*)(?:\[([^\]]*)\])?", nodes).groups()  # type: ignore[union-attr]
    return prefix + re.split("[-,]", numbers or "")[0]
