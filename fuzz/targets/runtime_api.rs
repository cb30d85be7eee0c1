//! The law of `runtime_api`, on whatever the fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tangelo_fuzz::runtime_api(bytes));
