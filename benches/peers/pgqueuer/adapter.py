"""Drives pgqueuer for capture-bench: see ../README.md."""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
import uuid
from importlib.metadata import version

import aiohttp
import asyncpg
import uvloop
from pgqueuer import AsyncpgPoolDriver, Job, Queries, QueueManager
from pgqueuer.types import QueueExecutionMode

AT_ONCE = 5_000


async def enqueue(pool, jobs):
    queries = Queries(AsyncpgPoolDriver(pool))
    await queries.install()
    for first in range(0, jobs, AT_ONCE):
        count = min(AT_ONCE, jobs - first)
        payloads = [str(n).encode() for n in range(first, first + count)]
        await queries.enqueue(["capture"] * count, payloads, [0] * count)


async def work(pool, jobs, mode, concurrency):
    queue = QueueManager(Queries(AsyncpgPoolDriver(pool)))
    done = 0
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=4)
    async with aiohttp.ClientSession(connector=connector) as session:

        @queue.entrypoint("capture")
        async def capture(job: Job) -> None:
            nonlocal done
            if mode != "noop":
                reference = str(uuid.uuid4())
                body = {
                    "requestId": reference,
                    "amount": {"amount": "10.00", "currency": "USD"},
                    "paymentEventMerchantReference": reference,
                }
                async with session.post(f"{mode}/v2/payments/100000001/capture", json=body) as answer:
                    await answer.read()
                    if answer.status != 201:
                        raise RuntimeError(f"the provider answered {answer.status}")
            done += 1

        started = time.time_ns() // 1000
        # It wants room for two batches.
        await queue.run(
            batch_size=max(1, min(500, concurrency // 2)),
            max_concurrent_tasks=concurrency,
            mode=QueueExecutionMode.drain,
        )
        finished = time.time_ns() // 1000
    if done < jobs:
        sys.exit(f"{done} of {jobs} jobs were done")
    print(json.dumps({"version": version("pgqueuer"), "started": started, "finished": finished, "jobs": done}))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["enqueue", "work"])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=2, max_size=10) as pool:
        if arguments.verb == "enqueue":
            await enqueue(pool, arguments.jobs)
        else:
            await work(pool, arguments.jobs, arguments.mode, arguments.concurrency)


uvloop.run(main())
