//! Contracts: what they refuse, where, whether verdicts about versions hold for events that are made up, and whether another
//! validator says the same.

mod compat;
mod folder;
mod second;
