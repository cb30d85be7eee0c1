//! The law of `kafka`, on whatever the fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tangelo_fuzz::kafka(bytes));
