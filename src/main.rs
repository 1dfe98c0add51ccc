//! The program: see [`laigu_router::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    laigu_router::cli::main()
}
