//! The `certfleet` command; everything is in the library.

fn main() -> std::process::ExitCode {
    certfleet::cli::main()
}
