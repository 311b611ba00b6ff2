#![no_main]

libfuzzer_sys::fuzz_target!(init: drop(fuzz::host::player()), |data: &[u8]| fuzz::host::cassettes(data));
