"""Drives Oban for Python for capture-bench: see ../README.md."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import time
import uuid
from importlib.metadata import version

import aiohttp
import uvloop
from oban import Oban, telemetry, worker
from oban.schema import install

AT_ONCE = 5_000
# Each records in one transaction, row by row, what has ended since it last asked for more, so others should be asking meanwhile.
MOST_INSTANCES = 4


@worker(queue="capture")
class Capture:
    session: aiohttp.ClientSession
    mode: str

    async def process(self, job):
        if self.mode == "noop":
            return
        reference = str(uuid.uuid4())
        body = {
            "requestId": reference,
            "amount": {"amount": "10.00", "currency": "USD"},
            "paymentEventMerchantReference": reference,
        }
        async with self.session.post(f"{self.mode}/v2/payments/100000001/capture", json=body) as answer:
            await answer.read()
            if answer.status != 201:
                raise RuntimeError(f"the provider answered {answer.status}")


async def enqueue(pool, jobs):
    await install(pool)
    oban = Oban(pool=pool)
    for first in range(0, jobs, AT_ONCE):
        await oban.enqueue_many(Capture.new({"n": n}) for n in range(first, min(first + AT_ONCE, jobs)))


async def work(pool, jobs, mode, concurrency):
    instances = min(MOST_INSTANCES, concurrency)
    # How many jobs are recorded as done is told by the queue itself, after the commit.
    recorded = 0
    all_recorded = asyncio.get_running_loop().create_future()

    def told(event, about):
        nonlocal recorded
        if all_recorded.done():
            return
        if event == "oban.job.exception":
            all_recorded.set_exception(RuntimeError(about["error_message"]))
            return
        recorded += about["count"]
        if recorded >= jobs:
            all_recorded.set_result(time.time_ns() // 1000)

    telemetry.attach("bench", ["oban.job.exception", "oban.producer.ack.stop"], told)
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=4)
    async with aiohttp.ClientSession(connector=connector) as Capture.session:
        Capture.mode = mode
        started = time.time_ns() // 1000
        async with contextlib.AsyncExitStack() as running:
            for number in range(instances):
                name = f"bench-{number}"
                oban = Oban(pool=pool, name=name, node=name, queues={"capture": concurrency // instances})
                await running.enter_async_context(oban)
            finished = await all_recorded
    print(json.dumps({"version": version("oban"), "started": started, "finished": finished, "jobs": recorded}))


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["enqueue", "work"])
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--mode", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    pool = await Oban.create_pool(os.environ["DATABASE_URL"], min_size=2, max_size=20)
    async with pool:
        if arguments.verb == "enqueue":
            await enqueue(pool, arguments.jobs)
        else:
            await work(pool, arguments.jobs, arguments.mode, arguments.concurrency)


uvloop.run(main())
