-- What people look at, fast beside millions of ended captures: the indexes of their reads.
--
-- Each index on intents or outcomes is paid by every capture, so there are few, and those on ended rows hold only what did
-- not pass at the first try. What is open is found in the small tables (ready, waiting, leases, deadlines).

-- The order of every list, newest first, and the spans of --since and --until. By time and then by id, not by id alone: a
-- caller may give ids that are in no order. Paid by every insert, at its right edge.
create index intents_newest on intents (created_at, id);

-- --order, and the ledger of an order. (A payment is found in intents_capture_ref_unique, lane by lane.)
create index intents_order on intents (order_id);

-- --class and --code over what has ended. A capture that passed at the first try is not in it.
create index outcomes_failed on outcomes (last_class, last_code) where last_class is not null or last_code is not null;

-- --state cancelled.
create index outcomes_cancelled on outcomes (ended_at) where state = 'cancelled';
