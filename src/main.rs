//! The binary: the TLS provider, the arguments, the runtime, the exit code.

use std::process::ExitCode;

use partner_program_worker::cli;
use partner_program_worker::cli::context::Exit;

fn main() -> ExitCode {
    // Both lapin and sqlx speak TLS through rustls, which wants one provider named. It can only
    // be installed already if something before `main` did so, and then it is the same one.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return cli::fail("the TLS provider is installed twice", Exit::Failure).into();
    }
    #[cfg(feature = "failpoints")]
    let _scenario = partner_program_worker::failpoint::setup();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&format!("can't start: {error}"), Exit::Failure).into(),
    };
    let exit = runtime.block_on(cli::run(cli));
    // A read from a terminal blocks its thread until a key is pressed; nothing waits for it.
    runtime.shutdown_background();
    exit.into()
}
