//! The megamux server's process: hands the command line to the library and its verdict to the operating system.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    megamux::cli::main()
}
