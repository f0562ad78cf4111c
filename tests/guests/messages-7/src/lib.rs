//! A message handler, with Spin's newest SDK: `append KEY TEXT`, `variable NAME`; anything else is printed.

use spin_sdk::key_value::Store;
use spin_sdk::redis::Payload;

#[spin_sdk::redis_subscriber]
async fn on_message(message: Payload) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&message).into_owned();
    let mut words = text.splitn(3, ' ');
    match (words.next().unwrap_or_default(), words.next(), words.next()) {
        ("append", Some(key), Some(rest)) => {
            let store = Store::open_default().await?;
            let mut value = store.get(key).await?.unwrap_or_default();
            value.extend_from_slice(rest.as_bytes());
            value.push(b' ');
            store.set(key, &value).await?;
        }
        ("variable", Some(name), None) => println!("{}", spin_sdk::variables::get(name).await?),
        _ => println!("{text}"),
    }
    Ok(())
}
