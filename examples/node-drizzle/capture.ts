// What is read of the schema `capture`. In a file of its own, which drizzle.config.ts does not name, and the schema is not
// exported: what drizzle-kit sees it wants to create.

import { numeric, pgSchema, text, uuid } from "drizzle-orm/pg-core";

const capture = pgSchema("capture");

export const status = capture
  .view("status", {
    id: uuid().notNull(),
    orderId: text("order_id").notNull(),
    state: text().notNull(),
    capturedMinor: numeric("captured_minor", { mode: "bigint" }),
    currency: text().notNull(),
  })
  .existing();
