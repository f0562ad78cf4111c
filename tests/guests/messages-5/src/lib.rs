//! A message handler, with Spin's SDK of the WASI 0.2 era. A message says what to do with it: `print TEXT`, `count KEY`,
//! `append KEY TEXT`, `publish CHANNEL TEXT`, `fail TEXT`, `loop`, `panic`; anything else is printed.

use spin_sdk::key_value::Store;
use spin_sdk::redis::Connection;

#[spin_sdk::redis_component]
fn on_message(message: spin_sdk::redis::Payload) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&message).into_owned();
    let mut words = text.splitn(3, ' ');
    let (what, key, rest) = (words.next().unwrap_or_default(), words.next().unwrap_or_default(), words.next());
    let rest = rest.unwrap_or_default();
    match what {
        "count" => {
            let connection = Connection::open("redis://granted:6379")?;
            connection.incr(key)?;
        }
        "append" => {
            let store = Store::open_default()?;
            let mut value = store.get(key)?.unwrap_or_default();
            value.extend_from_slice(rest.as_bytes());
            value.push(b' ');
            store.set(key, &value)?;
        }
        "publish" => Connection::open("redis://granted:6379")?.publish(key, &rest.as_bytes().to_vec())?,
        "fail" => anyhow::bail!("as it was told to"),
        "loop" => loop {
            std::hint::spin_loop();
        },
        "panic" => panic!("as it was told to"),
        _ => println!("{text}"),
    }
    Ok(())
}
