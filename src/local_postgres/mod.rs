//! A private Postgres for demo, dev and tests.
