//! A component with handlers of wasi:http 0.2 and 0.3. Each path ends the handler in one way: how much of the answer has
//! been sent, then what the guest does. Both handlers know the same paths, except those that only one version allows.

mod three;
mod two;

/// By then the written part has reached the client.
const LONG: u64 = 150_000_000;

fn trap() -> ! {
    std::arch::wasm32::unreachable()
}
