//! A program with Spin's SDK of its second version: wasi:http of October 2023, and Spin's key-value, redis and variables of
//! 2.0.0.
//!
//! `/echo/{status}` streams the body back, `/stream/{pieces}` generates one; `/fetch/{scheme}/{rest}` and `/fetch-many/…`
//! send outbound requests; `/kv2/{call}/{store}`, `/redis2/{call}/{address}` and `/variable/{name}` are those of
//! `spin-sdk-5`.

use std::collections::BTreeMap;

use futures::{SinkExt as _, StreamExt as _};
use spin_sdk::http::{
    Error, Headers, IncomingRequest, OutgoingResponse, Request, Response, ResponseOutparam, SendError,
};
use spin_sdk::key_value::{self, Store};
use spin_sdk::redis::{self, Connection, RedisParameter, RedisResult};

#[spin_sdk::http_component]
async fn handle(request: IncomingRequest, out: ResponseOutparam) {
    let path = request.path_with_query().unwrap_or_default();
    let parts: Vec<&str> = path.splitn(4, '/').skip(1).collect();
    match parts.as_slice() {
        ["echo", status] => echo(request, out, status.parse().unwrap_or(200)).await,
        ["stream", pieces] => stream(out, pieces.parse().unwrap_or(1)).await,
        // No request or response may have this header, and the WIT of October has no error that says so.
        ["refused-header"] => drop(Headers::new(&[("connection".to_owned(), b"close".to_vec())])),
        _ => {
            let body = request.into_body().await.unwrap_or_default();
            let answer = answer(&parts, body).await;
            let status = if answer.is_ok() { 200 } else { 502 };
            let response = OutgoingResponse::new(status, &Headers::new(&[]));
            let _gone = out.set_with_body(response, answer.unwrap_or_else(|error| error).into_bytes()).await;
        }
    }
}

async fn echo(request: IncomingRequest, out: ResponseOutparam, status: u16) {
    let mut headers = vec![
        ("x-method".to_owned(), request.method().to_string().into_bytes()),
        ("x-uri".to_owned(), request.uri().into_bytes()),
    ];
    headers.extend(request.headers().entries().into_iter().filter(|(name, _)| name.starts_with("x-of-client")));
    let response = OutgoingResponse::new(status, &Headers::new(&headers));
    let mut body = response.take_body();
    out.set(response);
    let mut pieces = request.into_body_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        if body.send(piece).await.is_err() {
            return;
        }
    }
}

async fn stream(out: ResponseOutparam, pieces: usize) {
    let response = OutgoingResponse::new(200, &Headers::new(&[]));
    let mut body = response.take_body();
    out.set(response);
    for piece in 0..pieces {
        if body.send(format!("piece {piece}\n").into_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer(parts: &[&str], body: Vec<u8>) -> Result<String, String> {
    let text = String::from_utf8_lossy(&body).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let bytes: Vec<Vec<u8>> = lines.iter().map(|line| unhex(line)).collect();
    match parts {
        ["fetch", scheme, rest @ ..] => Ok(fetch(format!("{scheme}://{}", rest.join("/")), body).await),
        ["fetch-many", scheme, rest @ ..] => {
            let all = (0..40).map(|_| fetch(format!("{scheme}://{}", rest.join("/")), Vec::new()));
            let mut counts = BTreeMap::new();
            for answer in futures::future::join_all(all).await {
                *counts.entry(answer.split(' ').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
            }
            Ok(format!("{counts:?}"))
        }
        ["kv2", call, store] => key_value(call, store, &bytes).map_err(|error| format!("{error:?}")),
        ["redis2", call, place] => {
            redis(call, &format!("redis://{place}:6379"), &lines, &bytes).map_err(|error| format!("{error:?}"))
        }
        ["variable", name] => spin_sdk::variables::get(name).map_err(|error| format!("{error:?}")),
        _ => Err("no such path".to_owned()),
    }
}

/// Status and body, or the text of the error.
async fn fetch(url: String, body: Vec<u8>) -> String {
    let request = if body.is_empty() { Request::get(url).build() } else { Request::post(url, body).build() };
    match spin_sdk::http::send::<_, Response>(request).await {
        Ok(response) => format!("{} {}", response.status(), String::from_utf8_lossy(response.body())),
        Err(SendError::Http(Error::UnexpectedError(text))) => text,
        Err(error) => format!("{error:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        line.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|digit| digit as u8).collect();
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
            let replies =
                connection.execute(&key, &parameters.collect::<Vec<_>>())?.into_iter().map(|reply| match reply {
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
