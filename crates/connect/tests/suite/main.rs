//! Outboxes of real databases: SQLite files that a Python process writes, and Debian's Postgres.

mod capture;
mod fixture;
mod postgres;
mod queries;
mod sqlite;
