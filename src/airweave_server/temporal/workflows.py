"""The workflow of a sync job. It knows the job's id and decides which step comes next; all else is in Postgres.

This module replays the decisions of its past versions: change them only behind ``workflow.patched``, and keep the
histories in tests/temporal replaying.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():  # for types and names only: no step runs in the workflow
    from .activities import Activities, Step

RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))
LONGEST_SLEEP_S = 60.0  # after which a job is noticed that ended without a word to its workflow
MANY_EVENTS = 1_500


@workflow.defn(name="RunSourceConnectionWorkflow")
class RunSourceConnectionWorkflow:
    """Drives one sync job: open, then slices of its partitions in parallel, then the deletes, then close.

    The workflow fails if the job fails, and is cancelled if the job is cancelled. Cancelling the workflow cancels the
    job.
    """

    def __init__(self) -> None:
        self._last = Step()
        self._is_ending = False

    @workflow.run
    async def run(self, job_id: str) -> str:
        """Drive the job to its end and return its terminal status."""
        try:
            ended = await self._drive(job_id)
        except (asyncio.CancelledError, FailureError) as error:
            if not is_cancelled_exception(error):
                raise
            self._is_ending = True
            while (await self._step(Activities.cancel, job_id)).ended is None:
                await self._sleep(0.5)
            raise
        if ended == "failed":
            raise ApplicationError("the sync job failed; the API has its error", type="job_failed", non_retryable=True)
        return ended

    async def _drive(self, job_id: str) -> str:
        while True:
            step = await self._step(Activities.open, job_id)
            if step.ended is None and step.wait_s is None and step.lanes:
                first = step.partition or 1
                await asyncio.gather(*(self._lane(job_id, first + number) for number in range(step.lanes)))
            if self._last.ended is None and self._last.wait_s is None and self._last.lanes == 0:
                for activity in (Activities.sweep, Activities.close):
                    step = await self._step(activity, job_id)
                    if step.ended is not None or step.wait_s is not None:
                        break
            if self._last.ended is not None:
                return self._last.ended
            if self._last.wait_s is not None:
                await self._sleep(self._last.wait_s)
            if self._is_long():
                workflow.continue_as_new(job_id)

    async def _lane(self, job_id: str, number: int) -> None:
        """Read slice after slice until nothing is left, or other lanes read all that is left. ``number``: of the
        partition that it probably begins with."""
        partition, met, total = number, 0, self._last.partitions
        while self._last.ended is None and not self._is_long():
            summary = f"partition {partition} of {total}, {met:,} entities" if total else None
            step = await self._step(Activities.read, job_id, summary)
            if step.partition is not None:
                partition, met = step.partition, step.met or 0
            if step.lanes == 0 or step.is_busy:
                return
            if step.wait_s is not None:
                await self._sleep(step.wait_s)

    async def _step(self, activity: Callable[[Activities, str], Step], job_id: str, summary: str | None = None) -> Step:
        # no timeouts here: ``worker.StepTimeouts`` sets them from the worker's settings
        step = await workflow.execute_activity_method(activity, job_id, retry_policy=RETRY, summary=summary)
        self._heed_cancel()
        if self._last.ended is None:  # among parallel lanes, the one that saw the end decides
            self._last = step
        return step

    async def _sleep(self, seconds: float) -> None:
        await workflow.sleep(min(max(seconds, 0.05), LONGEST_SLEEP_S))
        self._heed_cancel()

    def _heed_cancel(self) -> None:
        """Raise a cancel that came in the same workflow task as the end of a step or sleep; nothing else raises it."""
        if workflow.cancellation_reason() is not None and not self._is_ending:
            raise asyncio.CancelledError

    def _is_long(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > MANY_EVENTS
