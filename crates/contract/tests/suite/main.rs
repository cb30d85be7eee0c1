//! Contracts: what they refuse, where, and whether verdicts about versions hold for events that are made up.

mod compat;
mod folder;
