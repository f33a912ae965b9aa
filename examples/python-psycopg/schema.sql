-- The shop's own tables, in its own schema (the login's name, which is first on the search path).
create table if not exists shop_orders (
    id text primary key,
    total_minor bigint not null,
    currency text not null,
    state text not null default 'placed'
);
-- How far the feed has been handled. No row: not begun.
create table if not exists shop_feed (
    reader text primary key,
    cursor text not null
);
