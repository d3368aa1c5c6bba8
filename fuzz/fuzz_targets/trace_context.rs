#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| stdiopool_fuzz::run("trace_context", input));
