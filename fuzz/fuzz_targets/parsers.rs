//! libFuzzer's entry to `parsers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| synfin_fuzz::parsers(data));
