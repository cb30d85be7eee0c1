//! The tangelo binary.
fn main() {}
