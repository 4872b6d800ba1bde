//! The `rollcall` binary; everything is in the library.

use std::alloc::System;

use zeroizing_alloc::ZeroAlloc;

/// Wipes memory as it is freed: secrets pass through buffers of parsers, clients and servers that nobody else would wipe.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> std::process::ExitCode {
    rollcall::cli::main()
}
