//! A component with both handlers, of wasi:http 0.2 and 0.3, which end in every way that a handler can: how far the answer is, then
//! what happens to the guest, one path each. Both know the same paths, but for what only one of them can do.

mod three;
mod two;

/// By then what was written has left.
const LONG: u64 = 150_000_000;

fn trap() -> ! {
    std::arch::wasm32::unreachable()
}
