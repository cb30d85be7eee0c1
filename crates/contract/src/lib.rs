//! Contracts of events: for each type of event, versions of a JSON Schema (2020-12) that its data must keep to.
//!
//! Pure: no clock, no I/O, and no network: `$ref` leads only to files of the same folder. `folder` reads and refuses,
//! `contract` checks an event's data, `compat` says whether a later version may stand beside an earlier one, by a
//! `proof` that holds for all events or a `witness` that breaks it, and says so where neither is found.

mod bundle;
mod compat;
mod conjunction;
mod contract;
mod fields;
mod folder;
mod keywords;
pub mod law;
mod lint;
pub mod pin;
mod proof;
mod version;
mod witness;
mod work;

pub use compat::{Direction, Mode, Verdict, compare};
pub use contract::{Contract, MAX_VIOLATIONS, Violation};
pub use fields::Field;
pub use folder::{Contracts, FOLDER, MAX_BYTES, MAX_FILES, Problem};
pub use lint::type_problem;
pub use version::Version;
