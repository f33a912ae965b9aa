CREATE TABLE "shop_feed" (
	"reader" text PRIMARY KEY NOT NULL,
	"cursor" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "shop_orders" (
	"id" text PRIMARY KEY NOT NULL,
	"total_minor" bigint NOT NULL,
	"currency" text NOT NULL,
	"state" text DEFAULT 'placed' NOT NULL
);
