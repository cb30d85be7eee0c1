//! What patterns match and refuse, alone and in an index, against a naive matcher and EventBridge's recorded cases.

mod explain;
mod generate;
mod index;
mod language;
mod naive;
mod recorded;
