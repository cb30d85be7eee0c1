//! The launcher alone, for tests: what `tangelo __launcher` is in the real thing.

fn main() -> std::process::ExitCode {
    runtime::launcher::main()
}
