//! The program: see [`laigu_router::cli`].

use std::process::ExitCode;

/// Most of what an event allocates is freed by another thread than made it; glibc locks its arenas for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    laigu_router::cli::main()
}
