//! Event patterns in EventBridge's language over JSON events: compile once, match often.
//!
//! Pure: no clock, no I/O. `syntax` reads a pattern and refuses what it does not know, naming the place;
//! `matcher` decides. Spoken: exact values, `prefix`, `suffix`, `equals-ignore-case`, `numeric`, `exists`,
//! `anything-but` of all these but `numeric` and `exists`, and `$or`.

mod matcher;
mod number;
mod syntax;
mod test;
mod view;

pub use syntax::{Error, MAX_DEPTH, MAX_TERMS, MAX_TEXT, Pattern};
pub use view::event_view;
