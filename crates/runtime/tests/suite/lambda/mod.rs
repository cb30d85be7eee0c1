//! Lambda handlers, as real processes: under the shipped bootstraps, and under AWS's own clients.

mod platform;
mod python;
