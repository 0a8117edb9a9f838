//! The binary `meridian`: the allocator, and the way into [`meridian_node::cli`].
//!
//! mimalloc is the default because it is fast from the first build on. What holds the data is the store's own heap; the
//! allocator serves buffers, replies and the tables, whose sizes it suits well.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    meridian_node::cli::main()
}
