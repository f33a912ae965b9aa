// An order system on node-postgres: the order and its capture in one transaction, and the feed that says what became of it.

import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";

const ENQUEUE = `
  select id, created from capture.enqueue(
    provider => 'afterpay', order_id => $1, payment_id => $2, capture_ref => $1 || '-1',
    amount_minor => $3, currency => $4, details => $5)`;

/** Runs `work` in one transaction, on one connection: `pool.query("begin")` would begin it on whichever is free. */
export async function inTransaction(pool, work) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query("begin");
    const result = await work(client);
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch((lost) => { broken = lost; });
    throw error;
  } finally {
    client.release(broken);
  }
}

/** Writes the order and asks for its capture, in the caller's transaction. The same order again changes nothing. */
export async function placeOrder(client, { order, payment, amountMinor, currency = "USD" }) {
  await client.query(
    "insert into shop_orders (id, total_minor, currency) values ($1, $2, $3) on conflict (id) do nothing",
    [order, amountMinor, currency],
  );
  const asked = [order, payment, amountMinor, currency, { description: `order ${order}` }];
  const { rows: [capture] } = await client.query(ENQUEUE, asked);
  return capture;
}

/** Handles the next events and moves the cursor in the same transaction: each event is handled once. */
export async function followFeed(client) {
  await client.query("insert into shop_feed values ('orders', '') on conflict do nothing");
  // Locked: of two readers one waits.
  const { rows: [feed] } = await client.query("select cursor from shop_feed where reader = 'orders' for update");
  const { rows: events } = await client.query("select * from capture.events_after($1, 100)", [feed.cursor]);
  for (const event of events) {
    if (event.type === "capture.captured") {
      await client.query("update shop_orders set state = 'paid' where id = $1", [event.order_id]);
    }
  }
  if (events.length > 0) {
    await client.query("update shop_feed set cursor = $1 where reader = 'orders'", [events.at(-1).cursor]);
  }
  return events;
}

/** What a log should have of a refusal: the constraint is its name, the hint says what to do. */
function refused(order, error) {
  if (!(error instanceof pg.DatabaseError)) throw error;
  console.log(`${order} refused: ${error.code} ${error.constraint} (${error.column})`);
  console.log(`  ${error.message}\n  hint: ${error.hint}`);
}

async function main() {
  const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });
  await pool.query(await readFile(new URL("schema.sql", import.meta.url), "utf8"));

  const first = { order: "o-1001", payment: "100101234567", amountMinor: 4990 };
  const placed = await inTransaction(pool, (client) => placeOrder(client, first));
  console.log(`o-1001 placed: capture ${placed.id} is asked for`);
  const again = await inTransaction(pool, (client) => placeOrder(client, first));
  console.log(`o-1001 placed again: capture ${again.id} is ${again.created ? "another" : "the same"}`);

  const outOfStock = new Error("out of stock");
  await inTransaction(pool, async (client) => {
    await placeOrder(client, { order: "o-1002", payment: "100101234568", amountMinor: 1500 });
    throw outOfStock;
  }).catch((error) => { if (error !== outOfStock) throw error; });
  const { rows: [left] } = await pool.query(`
    select (select count(*) from shop_orders where id = 'o-1002') as orders,
           (select count(*) from capture.status where order_id = 'o-1002') as captures`);
  console.log(`o-1002 rolled back: ${left.orders} orders, ${left.captures} captures asked for`);

  // Only the capture: the shop's own bigint would refuse 19.99 before it.
  await pool.query(ENQUEUE, ["o-1003", "100101234569", "19.99", "USD", null]).catch((error) => refused("o-1003", error));
  await inTransaction(pool, (client) => placeOrder(client, { ...first, amountMinor: 5990 })).catch((error) => refused("o-1001", error));

  const patience = Date.now() + 20_000;
  for (;;) {
    for (const event of await inTransaction(pool, followFeed)) {
      console.log(`feed: ${event.order_id} ${event.type.replace("capture.", "")}`);
    }
    const { rowCount: paid } = await pool.query("select from shop_orders where id = 'o-1001' and state = 'paid'");
    if (paid) break;
    if (Date.now() > patience) throw new Error("o-1001 is not captured after 20 s: does a worker run?");
    await sleep(100);
  }
  console.log((await inTransaction(pool, followFeed)).length === 0 ? "feed: nothing new" : "feed: there is more");

  const { rows: [status] } = await pool.query("select state, captured_minor, currency from capture.status where order_id = $1", ["o-1001"]);
  console.log(`o-1001 is ${status.state}: ${status.captured_minor} ${status.currency}`);
  await pool.end();
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
