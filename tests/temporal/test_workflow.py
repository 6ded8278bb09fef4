"""What the workflow decides, by itself: each step's answer is given, and time is skipped where time is what counts."""

import asyncio
import sysconfig
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from airweave_server.settings import Settings
from airweave_server.temporal.activities import Step
from airweave_server.temporal.worker import StepTimeouts
from airweave_server.temporal.workflows import RunSourceConnectionWorkflow

pytestmark = pytest.mark.usefixtures("scratch")  # the SDK starts its servers by itself: say that they are needed
JOB = "00000000-0000-4000-8000-000000000001"
SERVER = Path(sysconfig.get_path("scripts")) / "temporal"
TEST_SERVER = Path(sysconfig.get_path("scripts")) / "temporal-test-server"

Answers = Callable[[str, int], Step]


class Played:
    """Steps whose answers are given by ``answer(name, how often it was asked before)``."""

    def __init__(self, answer: Answers) -> None:
        self.asked: list[str] = []
        self.cancels_seen = 0
        self.side_by_side = 0
        self._now = 0
        self._answer = answer
        self._lock = threading.Lock()

    def activities(self) -> list[Callable[[str], Step]]:
        return [self._named(name) for name in ("open", "read", "sweep", "close", "cancel")]

    def _named(self, name: str) -> Callable[[str], Step]:
        @activity.defn(name=name)
        def step(job_id: str) -> Step:
            assert job_id == JOB
            with self._lock:
                before = self.asked.count(name)
                self.asked.append(name)
                self._now += 1
                self.side_by_side = max(self.side_by_side, self._now)
            try:
                return self._answer(name, before)
            finally:
                with self._lock:
                    self._now -= 1

        return step


@asynccontextmanager
async def started(
    played: Played, *, skips_time: bool = True
) -> AsyncIterator[WorkflowHandle[RunSourceConnectionWorkflow, str]]:
    if skips_time:
        env = await WorkflowEnvironment.start_time_skipping(test_server_existing_path=str(TEST_SERVER))
    else:
        env = await WorkflowEnvironment.start_local(dev_server_existing_path=str(SERVER))
    async with env:
        with ThreadPoolExecutor(8) as executor:
            async with Worker(
                env.client,
                task_queue="q",
                workflows=[RunSourceConnectionWorkflow],
                activities=played.activities(),
                activity_executor=executor,
                interceptors=[StepTimeouts(Settings())],
            ):
                yield await env.client.start_workflow(
                    RunSourceConnectionWorkflow.run, JOB, id=f"w-{uuid4()}", task_queue="q"
                )


def play(
    answer: Answers,
    then: Callable[[WorkflowHandle[RunSourceConnectionWorkflow, str]], Awaitable[None]],
    *,
    skips_time: bool = True,
) -> Played:
    played = Played(answer)

    async def whole() -> None:
        async with started(played, skips_time=skips_time) as handle:
            await asyncio.wait_for(then(handle), 60)

    asyncio.run(whole())
    return played


def test_one_partition_takes_three_steps() -> None:
    def answer(name: str, before: int) -> Step:
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"

    assert play(answer, then).asked == ["open", "sweep", "close"]


def test_partitions_are_read_side_by_side_and_no_more_of_them_than_may_be() -> None:
    together = threading.Barrier(3, timeout=20)

    def answer(name: str, before: int) -> Step:
        if name == "open":
            return Step(lanes=3)
        if name == "read":
            if before < 3:
                together.wait()  # the three of them meet, or this fails
            return Step(lanes=3) if before < 6 else Step(lanes=0)
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"

    played = play(answer, then)
    assert played.side_by_side == 3
    assert played.asked[-2:] == ["sweep", "close"]


def test_half_an_hour_of_retry_after_is_waited_for_without_a_failure() -> None:
    def answer(name: str, before: int) -> Step:
        if name == "open":
            return Step(wait_s=1800 - 60 * before, lanes=1) if before < 30 else Step(lanes=0)
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"
        told = await handle.describe()
        assert told.close_time is not None
        assert 1_800 <= (told.close_time - told.start_time).total_seconds() < 1_900

    assert play(answer, then).asked.count("open") == 31  # it looks once a minute, should the job have ended meanwhile


def test_what_was_not_looked_at_is_never_swept() -> None:
    def answer(name: str, before: int) -> Step:
        if name == "open":
            return Step(lanes=1)
        if name == "read":  # fenced off, then told to hand back, and only then at the end
            return (Step(wait_s=0.5), Step(lanes=1), Step(lanes=0))[before]
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"

    assert play(answer, then).asked == ["open", "read", "read", "read", "sweep", "close"]


def test_a_sweep_that_had_to_hand_back_is_taken_again() -> None:
    def answer(name: str, before: int) -> Step:
        if name == "sweep" and before == 0:
            return Step(wait_s=0.0)
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"

    assert play(answer, then).asked == ["open", "sweep", "open", "sweep", "close"]


def test_a_job_that_failed_makes_the_workflow_fail_and_says_only_that() -> None:
    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        assert isinstance(failed.value.cause, ApplicationError)
        assert failed.value.cause.type == "job_failed"

    assert play(lambda name, before: Step(ended="failed"), then).asked == ["open"]


def test_a_job_that_is_driven_elsewhere_ends_the_workflow_quietly() -> None:
    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "gone"

    assert play(lambda name, before: Step(ended="gone"), then).asked == ["open"]


@pytest.mark.parametrize("while_it", ["reads", "waits"])
def test_a_cancel_of_the_workflow_cancels_the_job(while_it: str) -> None:
    at_it, told = threading.Event(), threading.Event()

    def answer(name: str, before: int) -> Step:
        at_it.set()
        if name == "cancel":
            told.set()
            return Step(ended="cancelled")
        if while_it == "waits":
            return Step(wait_s=86_400)
        if name == "open":
            return Step(lanes=1)
        told.wait(20)  # a slice that does not hear it
        return Step(lanes=1)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        await asyncio.to_thread(at_it.wait, 20)
        await handle.cancel()
        with pytest.raises(WorkflowFailureError) as failed:
            await handle.result()
        assert isinstance(failed.value.cause, CancelledError)
        assert (await handle.describe()).status == WorkflowExecutionStatus.CANCELED

    assert "cancel" in play(answer, then, skips_time=False).asked


def test_a_step_that_fails_for_an_unknown_reason_is_tried_again_and_again() -> None:
    def answer(name: str, before: int) -> Step:
        if name == "sweep" and before < 12:
            raise ApplicationError("unexpected_error", type="unexpected_error")
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"

    assert play(answer, then).asked.count("sweep") == 13


def test_a_long_history_is_continued_in_a_new_one() -> None:
    def answer(name: str, before: int) -> Step:
        if name == "open":
            return Step(lanes=2)
        if name == "read":
            return Step(lanes=2 if before < 400 else 0)
        return Step(ended="completed") if name == "close" else Step(lanes=0)

    async def then(handle: WorkflowHandle[RunSourceConnectionWorkflow, str]) -> None:
        assert await handle.result() == "completed"
        first = await handle.fetch_history()
        assert len(first.events) < 2_000

    played = play(answer, then)
    assert played.asked.count("open") == 2  # the second history begins like the first
