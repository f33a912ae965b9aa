// Drives pg-boss for capture-bench: see ../README.md.
import http from "node:http";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { PgBoss } from "pg-boss";

const { version } = createRequire(import.meta.url)("pg-boss/package.json");

const QUEUE = "capture";
const AT_ONCE = 5_000;
// A batch is fetched, run and recorded as one, so it should be large, and there must be others meanwhile.
const MOST_LOOPS = 4;

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

// By fetch and complete in batches: its worker, which does the same and watches each job's time, was somewhat slower.
async function work(boss, jobs, mode, concurrency) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: concurrency });
  const loops = Math.min(concurrency, MOST_LOOPS);
  const batchSize = Math.floor(concurrency / loops);
  let done = 0;
  const loop = async () => {
    for (;;) {
      const batch = await boss.fetch(QUEUE, { batchSize });
      if (batch.length === 0) return;
      if (mode !== "noop") await Promise.all(batch.map(() => post(mode, agent)));
      const { affected } = await boss.complete(QUEUE, batch);
      done += affected;
    }
  };
  const micros = () => Math.round(performance.timeOrigin * 1000 + performance.now() * 1000);
  const started = micros();
  await Promise.all(Array.from({ length: loops }, loop));
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
