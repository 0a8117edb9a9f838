//! Bytes for [`meridian_tests::decoders::tokens`], which says what is asked of them.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| meridian_tests::decoders::tokens(bytes));
