"""The minimum for Temporal's SDK: a workflow with one activity that returns its start time. Run as a program, it is the
worker: ``python -m benchmarks.empty_workflow ADDRESS TASK_QUEUE``."""

import asyncio
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import Worker


@activity.defn
def began_at() -> float:
    return time.time()


@workflow.defn
class Empty:
    @workflow.run
    async def run(self) -> float:
        return await workflow.execute_activity(began_at, start_to_close_timeout=timedelta(seconds=30))


async def main(address: str, task_queue: str) -> None:
    client = await Client.connect(address)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    with ThreadPoolExecutor(4) as executor:
        async with Worker(
            client,
            task_queue=task_queue,
            workflows=[Empty],
            activities=[began_at],
            activity_executor=executor,
            max_concurrent_activities=4,
        ):
            print("ready", flush=True)
            await over.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
    os._exit(0)
