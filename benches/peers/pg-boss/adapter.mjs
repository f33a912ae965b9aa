// Drives pg-boss for capture-bench: see ../README.md.
import http from "node:http";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { PgBoss } from "pg-boss";

const { version } = createRequire(import.meta.url)("pg-boss/package.json");

const QUEUE = "capture";
const AT_ONCE = 5_000;
// Each asks for a batch, runs it and records it as one, so a batch should be large and there must be others meanwhile.
const MOST_WORKERS = 4;

async function enqueue(boss, jobs) {
  await boss.createQueue(QUEUE);
  for (let first = 0; first < jobs; first += AT_ONCE) {
    const count = Math.min(AT_ONCE, jobs - first);
    await boss.insert(QUEUE, Array.from({ length: count }, (_, n) => ({ data: { n: first + n } })));
  }
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

async function work(boss, jobs, mode, concurrency) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency });
  const workers = Math.min(concurrency, MOST_WORKERS);
  const all = Promise.withResolvers();
  boss.on("error", all.reject);
  let done = 0;
  const capture = async (batch) => {
    try {
      if (mode !== "noop") await Promise.all(batch.map(() => post(mode, agent)));
    } catch (error) {
      all.reject(error);
      throw error;
    }
    done += batch.length;
    if (done >= jobs) all.resolve();
  };
  const micros = () => Math.round(performance.timeOrigin * 1000 + performance.now() * 1000);
  const started = micros();
  const settings = {
    localConcurrency: workers,
    batchSize: Math.floor(concurrency / workers),
    burstWhenBatchFull: true,
    pollingIntervalSeconds: 0.5,
  };
  await boss.work(QUEUE, settings, capture);
  await all.promise;
  // Waits until every worker has recorded its batch.
  await boss.offWork(QUEUE, { wait: true });
  const finished = micros();
  agent.destroy();
  console.log(JSON.stringify({ version, started, finished, jobs: done }));
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { jobs: { type: "string" }, mode: { type: "string" }, concurrency: { type: "string" } },
  });
  const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, max: 20 });
  await boss.start();
  const jobs = Number(values.jobs);
  if (positionals[0] === "enqueue") await enqueue(boss, jobs);
  else await work(boss, jobs, values.mode, Number(values.concurrency));
  await boss.stop();
}

main().catch((error) => {
  console.error(error.message);
  process.exit(1);
});
