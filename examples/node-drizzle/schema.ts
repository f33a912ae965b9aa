// The shop's own tables, and nothing else: what is exported here is what drizzle-kit takes for its own.

import { bigint, pgTable, text } from "drizzle-orm/pg-core";

export const orders = pgTable("shop_orders", {
  id: text().primaryKey(),
  totalMinor: bigint("total_minor", { mode: "bigint" }).notNull(),
  currency: text().notNull(),
  state: text().notNull().default("placed"),
});

/** How far the feed has been handled. */
export const feed = pgTable("shop_feed", {
  reader: text().primaryKey(),
  cursor: text().notNull(),
});
