//! Answers each message with a message, without end. `HERE THERE TEXT` increments the key `heard` and sends `THERE HERE
//! TEXT` to the channel THERE. `wide CHANNEL N` publishes itself N times to a channel. `ask URL THEN` requests a URL.

use spin_sdk::http::{Request, Response};
use spin_sdk::redis::{Connection, Payload};

const ADDRESS: &str = "redis://granted:6379";

#[spin_sdk::redis_component]
fn on_message(message: Payload) -> anyhow::Result<()> {
    let text = String::from_utf8_lossy(&message).into_owned();
    let words: Vec<&str> = text.splitn(3, ' ').collect();
    let connection = Connection::open(ADDRESS)?;
    connection.incr("heard")?;
    match words.as_slice() {
        ["ask", url, ..] => {
            let asked = spin_sdk::http::send::<_, Response>(Request::get(*url).build());
            let answer = spin_sdk::http::run(asked)?;
            anyhow::ensure!(*answer.status() == 200, "{}", String::from_utf8_lossy(answer.body()));
        }
        ["wide", channel, times] => {
            for _ in 0..times.parse::<u32>()? {
                connection.publish(channel, &text.clone().into_bytes())?;
            }
        }
        [here, there, rest @ ..] => {
            let back = format!("{there} {here} {}", rest.concat());
            connection.publish(there, &back.into_bytes())?;
        }
        _ => println!("{text}"),
    }
    Ok(())
}
