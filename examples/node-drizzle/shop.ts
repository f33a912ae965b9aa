// An order system on Drizzle: the order and its capture in one transaction, and the feed that says what became of it.

import { setTimeout as sleep } from "node:timers/promises";
import { DrizzleQueryError, TransactionRollbackError, and, count, eq, sql } from "drizzle-orm";
import { drizzle, type NodePgDatabase } from "drizzle-orm/node-postgres";
import { migrate } from "drizzle-orm/node-postgres/migrator";
import { DatabaseError } from "pg";
import { status } from "./capture.js";
import { feed, orders } from "./schema.js";

export type Transaction = Parameters<Parameters<NodePgDatabase["transaction"]>[0]>[0];
/** Whole minor units: a bigint, or digits. A number is a float. */
type Asked<Amount> = { order: string; payment: string; amountMinor: Amount; currency?: string };
type Capture = { id: string; created: boolean };
type FeedEvent = { cursor: string; type: string; order_id: string };

/** Asks for a capture, in the caller's transaction. */
export async function enqueue(tx: Transaction, asked: Asked<bigint | string>): Promise<Capture> {
  const { order, payment, amountMinor, currency = "USD" } = asked;
  const details = JSON.stringify({ description: `order ${order}` });
  const { rows: [capture] } = await tx.execute<Capture>(sql`
    select id, created from capture.enqueue(
      provider => 'afterpay', order_id => ${order}, payment_id => ${payment}, capture_ref => ${`${order}-1`},
      amount_minor => ${amountMinor}, currency => ${currency}, details => ${details})`);
  return capture!;
}

/** Writes the order and asks for its capture: both or neither. The same order again changes nothing. */
export async function placeOrder(tx: Transaction, asked: Asked<bigint>): Promise<Capture> {
  const { order, amountMinor, currency = "USD" } = asked;
  await tx.insert(orders).values({ id: order, totalMinor: amountMinor, currency }).onConflictDoNothing();
  return enqueue(tx, asked);
}

/** Handles the next events and moves the cursor in the same transaction: each event is handled once. */
export async function followFeed(tx: Transaction): Promise<FeedEvent[]> {
  await tx.insert(feed).values({ reader: "orders", cursor: "" }).onConflictDoNothing();
  // Locked: of two readers one waits.
  const [place] = await tx.select().from(feed).where(eq(feed.reader, "orders")).for("update");
  const { rows: events } = await tx.execute<FeedEvent>(sql`select * from capture.events_after(${place!.cursor}, 100)`);
  for (const event of events) {
    if (event.type === "capture.captured") {
      await tx.update(orders).set({ state: "paid" }).where(eq(orders.id, event.order_id));
    }
  }
  if (events.length > 0) {
    await tx.update(feed).set({ cursor: events.at(-1)!.cursor }).where(eq(feed.reader, "orders"));
  }
  return events;
}

/** What a log should have of a refusal. Drizzle wraps the driver's error, which has the parts, in one of its own. */
function refused(order: string, error: unknown): void {
  const cause = error instanceof DrizzleQueryError ? error.cause : error;
  if (!(cause instanceof DatabaseError)) throw error;
  console.log(`${order} refused: ${cause.code} ${cause.constraint} (${cause.column})`);
  console.log(`  ${cause.message}\n  hint: ${cause.hint}`);
}

async function main(): Promise<void> {
  const db = drizzle(process.env.DATABASE_URL!);
  await migrate(db, { migrationsFolder: "migrations", migrationsSchema: "shop" });

  const first = { order: "o-1001", payment: "100101234567", amountMinor: 4990n };
  const placed = await db.transaction((tx) => placeOrder(tx, first));
  console.log(`o-1001 placed: capture ${placed.id} is asked for`);
  const again = await db.transaction((tx) => placeOrder(tx, first));
  console.log(`o-1001 placed again: capture ${again.id} is ${again.created ? "another" : "the same"}`);

  await db.transaction(async (tx) => {
    await placeOrder(tx, { order: "o-1002", payment: "100101234568", amountMinor: 1500n });
    tx.rollback(); // out of stock; throws
  }).catch((error) => { if (!(error instanceof TransactionRollbackError)) throw error; });
  const [left] = await db.select({ orders: count() }).from(orders).where(eq(orders.id, "o-1002"));
  const [asked] = await db.select({ captures: count() }).from(status).where(eq(status.orderId, "o-1002"));
  console.log(`o-1002 rolled back: ${left!.orders} orders, ${asked!.captures} captures asked for`);

  // Only the capture: the shop's own bigint would refuse 19.99 before it.
  await db.transaction((tx) => enqueue(tx, { order: "o-1003", payment: "100101234569", amountMinor: "19.99" }))
    .catch((error) => refused("o-1003", error));
  await db.transaction((tx) => placeOrder(tx, { ...first, amountMinor: 5990n })).catch((error) => refused("o-1001", error));

  const patience = Date.now() + 20_000;
  for (;;) {
    for (const event of await db.transaction(followFeed)) {
      console.log(`feed: ${event.order_id} ${event.type.replace("capture.", "")}`);
    }
    if (await db.$count(orders, and(eq(orders.id, "o-1001"), eq(orders.state, "paid")))) break;
    if (Date.now() > patience) throw new Error("o-1001 is not captured after 20 s: does a worker run?");
    await sleep(100);
  }
  console.log((await db.transaction(followFeed)).length === 0 ? "feed: nothing new" : "feed: there is more");

  const [captured] = await db.select().from(status).where(eq(status.orderId, "o-1001"));
  console.log(`o-1001 is ${captured!.state}: ${captured!.capturedMinor} ${captured!.currency}`);
  await db.$client.end();
}

if (import.meta.url === `file://${process.argv[1]}`) await main();
