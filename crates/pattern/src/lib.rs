//! Event patterns in EventBridge's language over JSON events: compile once, match often, and say why not.
//!
//! Pure: no clock, no I/O. `syntax` reads a pattern and refuses what it does not know, naming the place; `flat` takes from an
//! event what patterns look at; `matcher` decides for one pattern, `index` for many at once, and `explain` says what a
//! pattern misses. The verdicts are those of event-ruler, the matcher behind EventBridge.

mod address;
mod explain;
mod flat;
mod fold;
mod index;
mod input;
pub mod law;
mod matcher;
mod number;
mod path;
mod paths;
mod syntax;
mod test;
mod wildcard;

pub use explain::{Explanation, Failure};
pub use index::Index;
pub use input::{Facts, Input, MAX_TEMPLATE, MAX_VARIABLES, Template, TooLarge};
pub use path::{MAX_PATH, Path};
pub use syntax::{
    Error, MAX_DEPTH, MAX_FIELDS, MAX_FIELDS_OF_WAY, MAX_TERMS, MAX_TEXT, MAX_WAYS, Pattern,
};
