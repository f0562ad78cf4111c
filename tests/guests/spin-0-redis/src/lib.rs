//! A core module of Spin 0.5 that handles messages. It does what that time's last example did: takes the address and the
//! channel from the environment; writes a key, reads it back and counts it; and publishes. The message `fail` fails.

#[path = "../../spin-0-http/src/abi.rs"]
mod abi;

use abi::{config, get, given, incr, publish, set};

#[unsafe(export_name = "handle-redis-message")]
unsafe extern "C" fn handle(message: *const u8, len: usize) -> *const u8 {
    let message = String::from_utf8_lossy(&unsafe { given(message, len) }).into_owned();
    println!("{message}");
    // `expected<unit, error>`: the case, and the number of the error.
    static DONE: [u8; 2] = [0, 0];
    static FAILED: [u8; 2] = [1, 1];
    match if message == "fail" { Err(1) } else { work(&message) } {
        Ok(()) => DONE.as_ptr(),
        Err(_error) => FAILED.as_ptr(),
    }
}

fn work(message: &str) -> Result<(), u8> {
    let address = std::env::var("REDIS_ADDRESS").unwrap_or_default();
    let channel = std::env::var("REDIS_CHANNEL").unwrap_or_default();
    set(&address, "spin-example", message.as_bytes())?;
    assert_eq!(get(&address, "spin-example")?, message.as_bytes());
    let count = incr(&address, "spin-example-incr")?;
    println!("{count} of {:?}", config("greeting"));
    // Only the first message publishes: it would otherwise answer itself without end.
    if count == 1 { publish(&address, &channel, b"published by a module of Spin 0.5") } else { Ok(()) }
}
