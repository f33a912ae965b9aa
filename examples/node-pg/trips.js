// What trips with node-postgres, each tried: the page in docs/order-systems/ quotes what this prints.

import pg from "pg";
import { inTransaction } from "./shop.js";

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
const ENQUEUE = `
  select id, created from capture.enqueue(provider => 'afterpay', order_id => $1, payment_id => '100200300',
    capture_ref => $1, amount_minor => $2, currency => 'USD', details => $3)`;

async function trip(what, tried) {
  try {
    console.log(`${what}: ${await inTransaction(pool, tried)}`);
  } catch (error) {
    console.log(`${what}: ${error.code}\n  ${error.message}`);
    if (error.hint) console.log(`  hint: ${error.hint}`);
  }
}

await trip("a float", (client) => client.query(ENQUEUE, ["t-1", 19.99 * 100, null]));
await trip("an array as details", (client) => client.query(ENQUEUE, ["t-2", 1999, ["two chairs"]]));
await trip("a BigInt in details", (client) => client.query(ENQUEUE, ["t-3", 1999, { description: 1n }]));
await trip("an amount that was read, plus 100", async (client) => {
  await client.query(ENQUEUE, ["t-4", 1999n, null]);
  const { rows: [status] } = await client.query("select amount_minor from capture.status where order_id = 't-4'");
  return `${JSON.stringify(status.amount_minor + 100)} and ${BigInt(status.amount_minor) + 100n}`;
});
await trip("goes on after a refusal", async (client) => {
  await client.query(ENQUEUE, ["t-5", -1, null]).catch(() => {});
  await client.query("insert into shop_orders values ('t-5', 1, 'USD')");
});
await trip("commits after a refusal", async (client) => {
  await client.query("insert into shop_orders values ('t-6', 1, 'USD')");
  await client.query(ENQUEUE, ["t-6", -1, null]).catch(() => {});
  const { command } = await client.query("commit");
  return command;
});
await trip("repeats under repeatable read", async (client) => {
  await client.query("set transaction isolation level repeatable read");
  await client.query("select 1");
  await pool.query(ENQUEUE, ["t-7", 1999, null]);
  await client.query(ENQUEUE, ["t-7", 1999, null]);
});

// Another request takes the connection on which the transaction was begun.
await pool.query("begin");
await Promise.all([pool.query("select 1"), pool.query(ENQUEUE, ["t-8", 1999, null])]);
await pool.query("rollback");
const { rows: [left] } = await pool.query("select count(*) from capture.status where order_id = 't-8'");
console.log(`intents left after pool.query("rollback"): ${left.count}`);
await pool.end();
