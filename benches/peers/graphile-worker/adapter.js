// Drives graphile-worker for capture-bench: see ../README.md.
"use strict";

const http = require("node:http");
const { randomUUID } = require("node:crypto");
const { parseArgs } = require("node:util");
const { Pool } = require("pg");
const { Logger, WorkerPreset, run, runMigrations } = require("graphile-worker");
const { version } = require("graphile-worker/package.json");

// Tasks at once; of jobs that take no time more only get in each other's way.
const MOST_WORKERS = 64;
const MOST_WORKERS_NOOP = 24;
// As its own page on performance does for a large backlog: jobs are fetched by hundreds, and told as done together.
const LOCAL_QUEUE = 500;
const quiet = new Logger(() => () => {});

async function enqueue(pool, jobs) {
  await runMigrations({ pgPool: pool, logger: quiet });
  await pool.query(
    "select count(*) from (select graphile_worker.add_job('capture', json_build_object('n', n)) from generate_series(1, $1) n) added",
    [jobs],
  );
}

function post(url, agent) {
  const reference = randomUUID();
  const body = JSON.stringify({
    requestId: reference,
    amount: { amount: "10.00", currency: "USD" },
    paymentEventMerchantReference: reference,
  });
  const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = http.request(`${url}/v2/payments/100000001/capture`, { method: "POST", agent, headers }, (answer) => {
      answer.resume();
      answer.on("end", () =>
        answer.statusCode === 201 ? resolve() : reject(new Error(`the provider answered ${answer.statusCode}`)),
      );
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function work(pool, jobs, mode, concurrency) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency });
  let done = 0;
  let allDone;
  const all = new Promise((resolve) => (allDone = resolve));
  const capture = async () => {
    if (mode !== "noop") await post(mode, agent);
    done += 1;
    if (done === jobs) allDone();
  };
  const micros = () => Math.round(performance.timeOrigin * 1000 + performance.now() * 1000);
  const started = micros();
  const runner = await run({
    pgPool: pool,
    taskList: { capture },
    noHandleSignals: true,
    preset: {
      extends: [WorkerPreset],
      worker: {
        logger: quiet,
        concurrentJobs: Math.min(concurrency, mode === "noop" ? MOST_WORKERS_NOOP : MOST_WORKERS),
        localQueue: { size: LOCAL_QUEUE },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  await Promise.race([all, runner.promise]);
  // Only then are all of them recorded as done.
  await runner.stop();
  const finished = micros();
  agent.destroy();
  if (done < jobs) throw new Error(`${done} of ${jobs} jobs were done`);
  console.log(JSON.stringify({ version, started, finished, jobs: done }));
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { jobs: { type: "string" }, mode: { type: "string" }, concurrency: { type: "string" } },
  });
  const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 20 });
  const jobs = Number(values.jobs);
  if (positionals[0] === "enqueue") await enqueue(pool, jobs);
  else await work(pool, jobs, values.mode, Number(values.concurrency));
  await pool.end();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
