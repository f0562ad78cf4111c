//! Children that misbehave on purpose, to test the code that watches them: one aborts, sleeps, computes for ever, and so
//! on. So no real input is needed that does this to a compiler.
//!
//! Security: a build without debug assertions, such as every release, contains none of this.

/// A test's instructions, such as `abort=DIGEST,sleep=DIGEST`.
#[cfg(debug_assertions)]
const VARIABLE: &str = "TOLLGATE_COMPILER_PRETENDS";

/// What a child has to do for the component with this digest.
#[cfg(debug_assertions)]
pub(super) fn told(digest: crate::ids::Digest) -> Option<String> {
    let told = std::env::var(VARIABLE).ok()?;
    let digest = digest.to_string();
    let mut pairs = told.split(',').filter_map(|pair| pair.split_once('='));
    pairs.find(|(_, of)| *of == digest).map(|(what, _)| what.to_owned())
}

#[cfg(not(debug_assertions))]
pub(super) const fn told(_digest: crate::ids::Digest) -> Option<String> {
    None
}

/// Acts in the child before it confines itself, because a confined child cannot send itself this signal.
#[cfg(debug_assertions)]
pub(super) fn act_before(what: &str) {
    if what == "die" {
        let own = rustix::process::getpid();
        let _dead = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn act_before(_what: &str) {}

/// Acts in the child.
#[cfg(debug_assertions)]
pub(super) fn act(what: &str) {
    use std::io::Write as _;
    const LINE: [u8; 4096] = [b'a'; 4096];
    match what {
        "abort" => std::process::abort(),
        "sleep" => loop {
            std::thread::park();
        },
        "burn" => loop {
            std::hint::spin_loop();
        },
        "allocate" => {
            let mut held = Vec::new();
            loop {
                held.push(vec![1_u8; 16 << 20]);
            }
        }
        "talk" => while std::io::stdout().write_all(&LINE).is_ok() {},
        "complain" => while std::io::stderr().write_all(&LINE).is_ok() {},
        "half" => {
            let _gone = std::io::stdout().write_all(b"{\"imports\":[\"wasi:");
            std::process::exit(0);
        }
        _ => {}
    }
}

#[cfg(not(debug_assertions))]
pub(super) const fn act(_what: &str) {}
