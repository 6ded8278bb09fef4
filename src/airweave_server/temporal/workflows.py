"""The workflow of a sync job. It knows the job's id and decides which step comes next; the rest is in Postgres.

What a past version of this module decided is replayed by this one: change it only behind ``workflow.patched``, and
keep the histories of tests/temporal replaying.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():  # for the types alone: no step is called here
    from .activities import Activities, Step

RETRY = RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=10))
LONGEST_SLEEP_S = 60.0  # a job that ended meanwhile is noticed then, should nobody have said so
MANY_EVENTS = 1_500


@workflow.defn(name="RunSourceConnectionWorkflow")
class RunSourceConnectionWorkflow:
    """Drives one sync job from open to close: slices of its partitions side by side, then the deletes, then its end.

    A job that fails makes the workflow fail, one that is cancelled makes it cancelled; a cancel of the workflow
    cancels the job.
    """

    def __init__(self) -> None:
        self._last = Step()
        self._is_ending = False

    @workflow.run
    async def run(self, job_id: str) -> str:
        """Takes the job's id, returns its terminal status."""
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
                await asyncio.gather(*(self._lane(job_id) for _ in range(step.lanes)))
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

    async def _lane(self, job_id: str) -> None:
        """Read slice after slice until nothing is left that another lane does not read."""
        while self._last.ended is None and not self._is_long():
            step = await self._step(Activities.read, job_id)
            if step.lanes == 0 or step.is_busy:
                return
            if step.wait_s is not None:
                await self._sleep(step.wait_s)

    async def _step(self, activity: Callable[[Activities, str], Step], job_id: str) -> Step:
        # without a timeout: the worker's settings know them, and ``worker.StepTimeouts`` sets them
        step = await workflow.execute_activity_method(activity, job_id, retry_policy=RETRY)
        self._heed_cancel()
        if self._last.ended is None:  # of lanes side by side, the one that saw the end has the last word
            self._last = step
        return step

    async def _sleep(self, seconds: float) -> None:
        await workflow.sleep(min(max(seconds, 0.05), LONGEST_SLEEP_S))
        self._heed_cancel()

    def _heed_cancel(self) -> None:
        """A cancel that comes in one workflow task with the end of a step or of a sleep is raised nowhere else."""
        if workflow.cancellation_reason() is not None and not self._is_ending:
            raise asyncio.CancelledError

    def _is_long(self) -> bool:
        info = workflow.info()
        return info.is_continue_as_new_suggested() or info.get_current_history_length() > MANY_EVENTS
