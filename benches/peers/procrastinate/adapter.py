"""Drives procrastinate for capture-bench: see ../README.md."""

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
import psycopg_pool
import uvloop
from procrastinate import App, PsycopgConnector

AT_ONCE = 5_000
# A worker asks for one job at a time, and for the next when it has the answer, so several of them ask at once. More of them than
# this only get in each other's way.
MOST_WORKERS = 16

logging.disable(logging.WARNING)
app = App(connector=PsycopgConnector())
done = 0
session = None
mode = None


@app.task(name="capture", queue="capture")
async def capture(n: int) -> None:
    global done
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


async def enqueue(jobs):
    await app.schema_manager.apply_schema_async()
    for first in range(0, jobs, AT_ONCE):
        await capture.batch_defer_async(*({"n": n} for n in range(first, min(first + AT_ONCE, jobs))))


async def work(jobs, concurrency):
    global session
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=4)
    async with aiohttp.ClientSession(connector=connector) as session:
        workers = min(MOST_WORKERS, concurrency)
        started = time.time_ns() // 1000
        await asyncio.gather(
            *(
                app.run_worker_async(
                    queues=["capture"],
                    concurrency=concurrency // workers,
                    wait=False,
                    listen_notify=False,
                    install_signal_handlers=False,
                )
                for _ in range(workers)
            )
        )
        finished = time.time_ns() // 1000
    if done < jobs:
        sys.exit(f"{done} of {jobs} jobs were done")
    print(json.dumps({"version": version("procrastinate"), "started": started, "finished": finished, "jobs": done}))


async def main():
    global mode
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["enqueue", "work"])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    mode = arguments.mode
    # A pool that it makes itself asks a connection whether it lives before each statement, and wraps each statement into a
    # transaction.
    async with psycopg_pool.AsyncConnectionPool(
        os.environ["DATABASE_URL"], min_size=2, max_size=MOST_WORKERS + 4, kwargs={"autocommit": True}
    ) as pool, app.open_async(pool):
        if arguments.verb == "enqueue":
            await enqueue(arguments.jobs)
        else:
            await work(arguments.jobs, arguments.concurrency)


uvloop.run(main())
