//! The Spin 2 part of the `spin` guest, with Spin's newest SDK, whose calls are asynchronous: `/kv2/{call}/{store}`,
//! `/redis2/{call}/{address}`, `/variable/{name}`; `/fetch` of the address in the body; and `/kv2/together/{store}`, which
//! sets several keys concurrently.

use futures::future::join_all;
use http_body_util::BodyExt as _;
use spin_sdk::http::{IntoResponse, Request, StatusCode};
use spin_sdk::key_value::{self, Store};
use spin_sdk::redis::{self, Connection, RedisParameter, RedisResult};

#[spin_sdk::http_service]
async fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.splitn(4, '/').skip(1).collect();
    let body = request.into_body().collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    let lines: Vec<&str> = body.lines().collect();
    let bytes: Vec<Vec<u8>> = lines.iter().map(|line| unhex(line)).collect();
    let answer = match parts.as_slice() {
        ["kv2", call, store] => key_value(call, store, &bytes).await.map_err(|error| format!("{error:?}")),
        ["redis2", call, place] => {
            redis(call, &format!("redis://{place}:6379"), &lines, &bytes).await.map_err(|error| format!("{error:?}"))
        }
        ["fetch"] => match spin_sdk::http::get(&body).await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let body = answer.into_body().collect().await?.to_bytes();
                Ok(format!("{status} {}", String::from_utf8_lossy(&body)))
            }
            Err(error) => Err(format!("{error:?}")),
        },
        ["variable", name] => spin_sdk::variables::get(name).await.map_err(|error| format!("{error:?}")),
        _ => Err("no such path".to_owned()),
    };
    let status = if answer.is_ok() { StatusCode::OK } else { StatusCode::BAD_GATEWAY };
    Ok((status, answer.unwrap_or_else(|error| error)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> = line.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn text(bytes: Option<&Vec<u8>>) -> String {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}

async fn key_value(call: &str, label: &str, arguments: &[Vec<u8>]) -> Result<String, key_value::Error> {
    let store = Store::open(label).await?;
    let key = text(arguments.first());
    Ok(match call {
        "get" => store.get(&key).await?.map_or_else(|| "(none)".to_owned(), |value| hex(&value)),
        "set" => store.set(&key, &arguments[1]).await.map(|()| "set".to_owned())?,
        "delete" => store.delete(&key).await.map(|()| "deleted".to_owned())?,
        "exists" => store.exists(&key).await?.to_string(),
        "together" => {
            let sets = arguments.iter().map(|argument| store.set(text(Some(argument)), argument));
            let done = join_all(sets).await;
            format!("{} set", done.into_iter().filter(Result::is_ok).count())
        }
        "get-keys" => store.get_keys().await.collect().await?.join(" "),
        _ => "no such call".to_owned(),
    })
}

async fn redis(call: &str, address: &str, lines: &[&str], arguments: &[Vec<u8>]) -> Result<String, redis::Error> {
    let connection = Connection::open(address).await?;
    let key = text(arguments.first());
    let texts: Vec<String> = arguments.iter().map(|argument| text(Some(argument))).collect();
    let rest = texts.get(1..).unwrap_or_default();
    Ok(match call {
        "publish" => connection.publish(&key, &arguments[1]).await.map(|()| "published".to_owned())?,
        "get" => connection.get(&key).await?.map_or_else(|| "(none)".to_owned(), |value| hex(&value)),
        "set" => connection.set(&key, &arguments[1]).await.map(|()| "set".to_owned())?,
        "incr" => connection.incr(&key).await?.to_string(),
        "del" => connection.del(&texts).await?.to_string(),
        "sadd" => connection.sadd(&key, rest).await?.to_string(),
        "smembers" => connection.smembers(&key).await?.join(" "),
        "srem" => connection.srem(&key, rest).await?.to_string(),
        "execute" => {
            let parameters = lines.iter().skip(1).map(|line| match line.strip_prefix("i:") {
                Some(number) => RedisParameter::Int64(number.parse().unwrap_or_default()),
                None => RedisParameter::Binary(unhex(line)),
            });
            let replies = connection.execute(&key, parameters.collect::<Vec<_>>()).await?.into_iter().map(|reply| match reply {
                RedisResult::Nil => "nil".to_owned(),
                RedisResult::Status(text) => format!("status {text}"),
                RedisResult::Int64(number) => format!("int {number}"),
                RedisResult::Binary(bytes) => format!("bytes {}", hex(&bytes)),
            });
            replies.collect::<Vec<_>>().join("\n")
        }
        _ => "no such call".to_owned(),
    })
}
