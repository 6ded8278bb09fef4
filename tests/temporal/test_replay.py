"""What any released version of the workflow has done, this one does again: else jobs in flight would be stuck."""

import asyncio
from pathlib import Path

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from airweave_server.settings import Settings
from airweave_server.temporal.worker import StepTimeouts
from airweave_server.temporal.workflows import RunSourceConnectionWorkflow

HISTORIES = sorted((Path(__file__).parent / "histories").glob("*.json"))
KINDS = ("plain", "lanes", "reread", "failed", "cancelled", "cancelled_in_the_ui", "taken_over", "continued")


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
@pytest.mark.fault("F26", on="temporal", only="temporal")
def test_a_recorded_history_replays(path: Path) -> None:
    history = WorkflowHistory.from_json("sync-replayed", path.read_text())
    replayer = Replayer(workflows=[RunSourceConnectionWorkflow], interceptors=[StepTimeouts(Settings())])
    asyncio.run(replayer.replay_workflow(history))


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_history_of_each_kind(kind: str) -> None:
    numbered = [path for path in HISTORIES if path.stem.partition("_")[2].rpartition("_")[0] == kind]
    assert numbered
    if kind == "continued":
        assert len(numbered) > 1
