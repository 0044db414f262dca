"""How a run of ours begins in the store: its tags, a name that every database takes, created once."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from kernelexp.commit import code_tags
from kernelexp.liveness import HEARTBEAT_TAG, PROCESS_TAG, sign, this_process
from kernelexp.store.config import TrackingConfig
from kernelexp.store.delivery import Delivery
from kernelexp.store.entries import Begin
from kernelexp.store.outbox import say

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Of a run's name, which databases other than SQLite enforce.
LONGEST_NAME = 250
FULL_NAME_TAG = "full_name"
_TRIES, _PAUSE = 3, 1.0


def beginning(
    config: TrackingConfig, name: str, tags: dict[str, str], run_id: str | None = None
) -> Begin:
    """The first entry of a run that this process holds; ``run_id``: of one that goes on.

    A name that is too long is cut, and whole in a tag.
    """
    own = {
        **config.tags,
        PROCESS_TAG: str(this_process()),
        HEARTBEAT_TAG: sign(),
        **code_tags(),
        **tags,
    }
    if len(name) > LONGEST_NAME:
        own[FULL_NAME_TAG] = name
        name = name[: LONGEST_NAME - 3] + "..."
    return Begin(uuid.uuid4().hex, config.uri, config.experiment, name, own, run_id)


def create_run(client: MlflowClient, begin: Begin) -> str:
    """Create a run, one also where the store's reply is lost; its id.

    Raises:
        Exception: of the store.
    """
    delivery = Delivery(client, say)
    for tried in range(1, _TRIES + 1):
        try:
            delivery.deliver([begin])
            break
        except Exception:
            if tried == _TRIES:
                raise
            time.sleep(_PAUSE)
    return delivery.run
