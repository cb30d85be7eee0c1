//! The law of `pgoutput`, on whatever the fuzzer makes up.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tangelo_fuzz::pgoutput(bytes));
