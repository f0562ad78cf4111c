//! The price of the gateway's work for a tenant, in fuel: the published table. docs/hosts.md shows it, and a test compares
//! them.
//!
//! Wasmtime counts about one unit for each instruction, and one for each byte of `memory.copy`, `memory.fill` and similar
//! ones. It does not see what the host does for a guest. That work is added by calls and by bytes, never by time, so that
//! the same request costs the same on every run. The prices are rounded from measurements, at about two units a nanosecond.

/// Creating an instance and resetting its slot afterwards.
pub(crate) const INSTANCE: u64 = 100_000;
/// Giving a request an instance that has answered others.
pub(crate) const INSTANCE_AGAIN: u64 = 20_000;
/// One call to the host and back.
pub(crate) const HOST_CALL: u64 = 300;
/// One call of a component that has files: each call may open one or list a folder, on another thread.
pub(crate) const HOST_CALL_WITH_FILES: u64 = 20_000;
/// A text, a list or a handle that a call carries to the host or back: it is found, allocated and freed.
pub(crate) const CARRIED_TEXT: u64 = 50;
/// How many bytes of it cost one unit: they are copied and checked as UTF-8, and their pages are touched for the first
/// time.
pub(crate) const CARRIED_BYTES_A_UNIT: u64 = 4;
/// An answer that is a WASI error: it is created, passed through several layers and decoded again.
pub(crate) const REFUSAL: u64 = 2_000;
/// Parsing an outbound request and checking whether it is allowed.
pub(crate) const REQUEST_LOOKED_AT: u64 = 20_000;
/// How many bytes of a request's or response's body cost one unit.
pub(crate) const BODY_BYTES_A_UNIT: u64 = 4;
/// A clock's timer: it is registered, wakes the guest later, and the guest is scheduled again.
pub(crate) const TIMER: u64 = 10_000;
/// One key read or written. A write to the embedded store takes this long: a thread of its own writes it to disk.
pub(crate) const STORAGE_OP: u64 = 40_000;
/// One element that a Redis command processes, or one word of it: a server does about ten in a microsecond.
pub(crate) const STORAGE_ELEMENT: u64 = 200;
/// Finding a store or a server among the grants.
pub(crate) const STORE_OPENED: u64 = 2_000;
/// How many bytes of keys and values cost one unit.
pub(crate) const STORAGE_BYTES_A_UNIT: u64 = 1;
/// One outbound request.
pub(crate) const OUTBOUND: u64 = 200_000;
/// One byte of a response that is compressed.
pub(crate) const CODED_BYTE: u64 = 20;
/// One random byte.
pub(crate) const RANDOM_BYTE: u64 = 2;
/// One line to the tenant's log.
pub(crate) const LOG_LINE: u64 = 4_000;
/// One span that a guest creates itself.
pub(crate) const SPAN: u64 = 4_000;
/// How many bytes that a memory or table grows by cost one unit: pages must be found, mapped and cleared afterwards.
pub(crate) const GROWN_BYTES_A_UNIT: u64 = 4;

/// The table for the documentation.
#[cfg(test)]
pub(crate) fn table() -> String {
    let rows = [
        ("a new instance, created and reset", INSTANCE.to_string()),
        ("an instance that is reused", INSTANCE_AGAIN.to_string()),
        ("a host call", HOST_CALL.to_string()),
        ("a host call of a component with files", HOST_CALL_WITH_FILES.to_string()),
        ("a string, a list or a handle in a host call", CARRIED_TEXT.to_string()),
        ("bytes of these, and bytes written to standard output", format!("1 for {CARRIED_BYTES_A_UNIT} bytes")),
        ("an error that a WASI call returns", REFUSAL.to_string()),
        ("an outbound request that is checked, sent or not", REQUEST_LOOKED_AT.to_string()),
        ("bytes of a body, in or out", format!("1 for {BODY_BYTES_A_UNIT} bytes")),
        ("a clock timer", TIMER.to_string()),
        ("a storage operation (a key)", STORAGE_OP.to_string()),
        ("an element that a Redis command processes, or a word of the command", STORAGE_ELEMENT.to_string()),
        ("a store or a connection opened", STORE_OPENED.to_string()),
        ("bytes of keys and values, and of data for wasi:otel", format!("1 for {STORAGE_BYTES_A_UNIT} byte")),
        ("an outbound request", OUTBOUND.to_string()),
        ("a byte of a response that is compressed", CODED_BYTE.to_string()),
        ("a random byte", RANDOM_BYTE.to_string()),
        ("a line to the log", LOG_LINE.to_string()),
        ("a span of wasi:otel", SPAN.to_string()),
        ("bytes by which a memory grows", format!("1 for {GROWN_BYTES_A_UNIT} bytes")),
    ];
    let rows: String = rows.iter().map(|(what, cost)| format!("| {what} | {cost} |\n")).collect();
    format!("| work | fuel |\n|---|---|\n{rows}")
}
