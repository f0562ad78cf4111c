//! The Spin 2 part of the `spin` guest, with Spin's SDK of that time: `/kv2/{call}/{store}`, `/redis2/{call}/{address}`,
//! `/variable/{name}`; `/fetch` of the address in the body; and `/sqlite`, which the gateway does not serve.

use spin_sdk::http::{IntoResponse, Request, Response};
use spin_sdk::key_value::{self, Store};
use spin_sdk::redis::{self, Connection, RedisParameter, RedisResult};

#[spin_sdk::http_component]
async fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let path = request.path().to_owned();
    let parts: Vec<&str> = path.splitn(4, '/').skip(1).collect();
    let body = String::from_utf8_lossy(request.body()).into_owned();
    let lines: Vec<&str> = body.lines().collect();
    let bytes: Vec<Vec<u8>> = lines.iter().map(|line| unhex(line)).collect();
    let answer = match parts.as_slice() {
        ["kv2", call, store] => key_value(call, store, &bytes).map_err(|error| format!("{error:?}")),
        ["redis2", call, place] => {
            redis(call, &format!("redis://{place}:6379"), &lines, &bytes).map_err(|error| format!("{error:?}"))
        }
        ["variable", name] => spin_sdk::variables::get(name).map_err(|error| format!("{error:?}")),
        ["fetch"] => {
            let answer = spin_sdk::http::send::<_, Response>(Request::get(body.as_str()).build()).await;
            let told = answer.map(|answer| format!("{} {}", answer.status(), String::from_utf8_lossy(answer.body())));
            told.map_err(|error| error.to_string())
        }
        ["sqlite"] => Ok(format!("{:?}", spin_sdk::sqlite::Connection::open_default().is_ok())),
        _ => Err("no such path".to_owned()),
    };
    let status = if answer.is_ok() { 200 } else { 502 };
    Ok(Response::builder().status(status).body(answer.unwrap_or_else(|error| error)).build())
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

fn key_value(call: &str, label: &str, arguments: &[Vec<u8>]) -> Result<String, key_value::Error> {
    let store = Store::open(label)?;
    let key = text(arguments.first());
    Ok(match call {
        "get" => store.get(&key)?.map_or_else(|| "(none)".to_owned(), |value| hex(&value)),
        "set" => store.set(&key, &arguments[1]).map(|()| "set".to_owned())?,
        "delete" => store.delete(&key).map(|()| "deleted".to_owned())?,
        "exists" => store.exists(&key)?.to_string(),
        "get-keys" => store.get_keys()?.join(" "),
        _ => "no such call".to_owned(),
    })
}

fn redis(call: &str, address: &str, lines: &[&str], arguments: &[Vec<u8>]) -> Result<String, redis::Error> {
    let connection = Connection::open(address)?;
    let key = text(arguments.first());
    let texts: Vec<String> = arguments.iter().map(|argument| text(Some(argument))).collect();
    let rest = texts.get(1..).unwrap_or_default();
    Ok(match call {
        "publish" => connection.publish(&key, &arguments[1]).map(|()| "published".to_owned())?,
        "get" => connection.get(&key)?.map_or_else(|| "(none)".to_owned(), |value| hex(&value)),
        "set" => connection.set(&key, &arguments[1]).map(|()| "set".to_owned())?,
        "incr" => connection.incr(&key)?.to_string(),
        "del" => connection.del(&texts)?.to_string(),
        "sadd" => connection.sadd(&key, rest)?.to_string(),
        "smembers" => connection.smembers(&key)?.join(" "),
        "srem" => connection.srem(&key, rest)?.to_string(),
        "execute" => {
            let parameters = lines.iter().skip(1).map(|line| match line.strip_prefix("i:") {
                Some(number) => RedisParameter::Int64(number.parse().unwrap_or_default()),
                None => RedisParameter::Binary(unhex(line)),
            });
            let replies = connection.execute(&key, &parameters.collect::<Vec<_>>())?.into_iter().map(|reply| match reply {
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
