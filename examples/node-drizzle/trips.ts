// What trips with Drizzle, each tried: the page in docs/order-systems/ quotes what this prints.

import { DrizzleQueryError, count, eq, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { status } from "./capture.js";
import { orders } from "./schema.js";
import { enqueue, type Transaction } from "./shop.js";

const db = drizzle(process.env.DATABASE_URL!);
const intents = async (order: string) => (await db.select({ n: count() }).from(status).where(eq(status.orderId, order)))[0]!.n;
const asked = (order: string, amountMinor: bigint | string = 1999n) => ({ order, payment: "100200300", amountMinor });
const withDetails = (order: string, details: unknown) => sql`
  select id from capture.enqueue(provider => 'afterpay', order_id => ${order}, payment_id => '100200300',
    capture_ref => ${order}, amount_minor => 1999, currency => 'USD', details => ${details})`;

async function trip(what: string, tried: (tx: Transaction) => Promise<unknown>, config?: Parameters<typeof db.transaction>[1]) {
  try {
    console.log(`${what}: ${await db.transaction(tried, config)}`);
  } catch (error) {
    const cause = (error as DrizzleQueryError).cause as { code?: string; message: string } | undefined;
    console.log(`${what}: ${cause?.code}\n  ${cause?.message ?? error}`);
  }
}

await trip("the error itself", async (tx) => {
  try {
    await enqueue(tx, asked("t-1", "19.99"));
  } catch (error) {
    const { constructor, message, code, cause } = error as DrizzleQueryError & { code?: string; cause: { code: string; constraint: string } };
    return `${constructor.name}, code ${code}, "${message.slice(0, 12)}…"; its cause: ${cause.code} ${cause.constraint}`;
  }
});
await trip("db inside of a transaction", async (tx) => {
  await db.execute(withDetails("t-2", null));
  tx.rollback();
});
console.log(`intents left: ${await intents("t-2")}`);
await trip("an array as details", (tx) => tx.execute(withDetails("t-3", ["two chairs"])));
await trip("goes on after a refusal", async (tx) => {
  await enqueue(tx, asked("t-4", "-1")).catch(() => {});
  await tx.insert(orders).values({ id: "t-4", totalMinor: 1n, currency: "USD" });
});
await trip("a refusal that is swallowed", async (tx) => {
  await tx.insert(orders).values({ id: "t-5", totalMinor: 1n, currency: "USD" });
  await enqueue(tx, asked("t-5", "-1")).catch(() => {});
  return "no error";
});
console.log(`orders left: ${await db.$count(orders, eq(orders.id, "t-5"))}`);
await trip("and one in a nested transaction", async (tx) => {
  await tx.insert(orders).values({ id: "t-6", totalMinor: 1n, currency: "USD" });
  await tx.transaction((nested) => enqueue(nested, asked("t-6", "-1"))).catch(() => {});
  return "no error";
});
console.log(`orders left: ${await db.$count(orders, eq(orders.id, "t-6"))}`);
await trip(
  "repeats under repeatable read",
  async (tx) => {
    await tx.execute(sql`select 1`);
    await db.transaction((other) => enqueue(other, asked("t-7")));
    await enqueue(tx, asked("t-7"));
  },
  { isolationLevel: "repeatable read" },
);
await db.$client.end();
