//! wasi:cli, wasi:clocks and wasi:random of 2023.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance};
use wasmtime_wasi::p2::bindings::cli::terminal_input::{HostTerminalInput, TerminalInput};
use wasmtime_wasi::p2::bindings::cli::terminal_output::{HostTerminalOutput, TerminalOutput};
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_stderr, terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random as secure};

use super::{Candidate, cli_of, clocks, functions, nothing, plain, random, resources};
use crate::host::Guest;
use crate::tenant::cost;

pub(super) fn add(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    standard_streams(linker, candidate)?;
    terminals(linker, candidate)?;
    time(linker, candidate)?;
    randomness(linker, candidate)
}

fn standard_streams(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    let mut to = candidate.open(linker, "wasi:cli/environment")?;
    functions!(to, cli_of;
        "get-environment" = environment::Host::get_environment as plain, ();
        "get-arguments" = environment::Host::get_arguments as plain, ();
        "initial-cwd" = environment::Host::initial_cwd as plain, ();
    );
    let mut to = candidate.open(linker, "wasi:cli/exit")?;
    functions!(to, cli_of; "exit" = exit::Host::exit as nothing, (status););
    let mut to = candidate.open(linker, "wasi:cli/stdin")?;
    functions!(to, cli_of; "get-stdin" = stdin::Host::get_stdin as plain, (););
    let mut to = candidate.open(linker, "wasi:cli/stdout")?;
    functions!(to, cli_of; "get-stdout" = stdout::Host::get_stdout as plain, (););
    let mut to = candidate.open(linker, "wasi:cli/stderr")?;
    functions!(to, cli_of; "get-stderr" = stderr::Host::get_stderr as plain, (););
    Ok(())
}

fn terminals(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    let mut to = candidate.open(linker, "wasi:cli/terminal-input")?;
    resources!(to, cli_of; "terminal-input" = TerminalInput, HostTerminalInput::drop;);
    let mut to = candidate.open(linker, "wasi:cli/terminal-output")?;
    resources!(to, cli_of; "terminal-output" = TerminalOutput, HostTerminalOutput::drop;);
    let mut to = candidate.open(linker, "wasi:cli/terminal-stdin")?;
    functions!(to, cli_of; "get-terminal-stdin" = terminal_stdin::Host::get_terminal_stdin as plain, (););
    let mut to = candidate.open(linker, "wasi:cli/terminal-stdout")?;
    functions!(to, cli_of; "get-terminal-stdout" = terminal_stdout::Host::get_terminal_stdout as plain, (););
    let mut to = candidate.open(linker, "wasi:cli/terminal-stderr")?;
    functions!(to, cli_of; "get-terminal-stderr" = terminal_stderr::Host::get_terminal_stderr as plain, (););
    Ok(())
}

fn time(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    let mut to = candidate.open(linker, "wasi:clocks/wall-clock")?;
    functions!(to, clocks;
        "now" = wall_clock::Host::now as plain, ();
        "resolution" = wall_clock::Host::resolution as plain, ();
    );
    let mut to = candidate.open(linker, "wasi:clocks/monotonic-clock")?;
    functions!(to, clocks;
        "now" = monotonic_clock::Host::now as plain, ();
        "resolution" = monotonic_clock::Host::resolution as plain, ();
    );
    match candidate {
        Candidate::October => {
            to.func_wrap("subscribe", |mut store: StoreContextMut<'_, Guest>, (when, is_absolute): (u64, bool)| {
                store.data_mut().charge(cost::TIMER);
                let clocks = &mut clocks(store.data_mut());
                Ok((if is_absolute {
                    monotonic_clock::Host::subscribe_instant(clocks, when)?
                } else {
                    monotonic_clock::Host::subscribe_duration(clocks, when)?
                },))
            })?
        }
        Candidate::November => timers(&mut to)?,
    }
    Ok(())
}

/// The functions that wake a guest later, the same in November's candidate and in 0.2.
pub(in crate::host) fn timers(to: &mut LinkerInstance<'_, Guest>) -> wasmtime::Result<()> {
    functions!(to, clocks;
        "subscribe-instant" = monotonic_clock::Host::subscribe_instant as timer, (when);
        "subscribe-duration" = monotonic_clock::Host::subscribe_duration as timer, (after);
    );
    Ok(())
}

fn timer<T>(guest: &mut Guest, answer: wasmtime::Result<T>) -> wasmtime::Result<(T,)> {
    guest.charge(cost::TIMER);
    plain(guest, answer)
}

fn randomness(linker: &mut Linker<Guest>, candidate: Candidate) -> wasmtime::Result<()> {
    let mut to = candidate.open(linker, "wasi:random/random")?;
    functions!(to, random;
        "get-random-bytes" = secure::Host::get_random_bytes as plain, (bytes);
        "get-random-u64" = secure::Host::get_random_u64 as plain, ();
    );
    let mut to = candidate.open(linker, "wasi:random/insecure")?;
    functions!(to, random;
        "get-insecure-random-bytes" = insecure::Host::get_insecure_random_bytes as plain, (bytes);
        "get-insecure-random-u64" = insecure::Host::get_insecure_random_u64 as plain, ();
    );
    let mut to = candidate.open(linker, "wasi:random/insecure-seed")?;
    functions!(to, random; "insecure-seed" = insecure_seed::Host::insecure_seed as plain, (););
    Ok(())
}
