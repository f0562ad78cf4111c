//! Every call of fermyon:spin/key-value and redis, of Spin 1 and 2.0.0: `/{interface}/{call}/{store or address}`, where the
//! interface is `kv1`, `kv2`, `redis1` or `redis2`. The lines of the body are the arguments in hex (or `i:` and a number,
//! for `execute`); the answer has one line per value.

use wstd::http::{Body, Error, Request, Response, StatusCode};

mod one {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/fermyon-spin-1",
        world: "imports",
        generate_all,
    });
    pub use fermyon::spin::{key_value, redis, redis_types};
}
mod two {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/fermyon-spin-2.0.0",
        world: "imports",
        generate_all,
    });
    pub use fermyon::spin::{key_value, redis};
}

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().contents().await?.to_vec();
    let lines: Vec<String> = String::from_utf8_lossy(&body).lines().map(str::to_owned).collect();
    let mut parts = path.splitn(4, '/').skip(1);
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (interface, call, place) = (part(), part(), part());
    let (status, text) = match run(&interface, &call, &place, &lines) {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::BAD_GATEWAY, text),
    };
    Ok(Response::builder().status(status).body(text.into_bytes().into())?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(line: &str) -> Vec<u8> {
    let digits: Vec<u8> = line.bytes().filter_map(|byte| char::from(byte).to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// An address has slashes, which a part of a path cannot have.
fn address(place: &str) -> String {
    format!("redis://{place}:6379")
}

fn run(interface: &str, call: &str, place: &str, lines: &[String]) -> Result<String, String> {
    let bytes: Vec<Vec<u8>> = lines.iter().map(|line| unhex(line)).collect();
    let words: Vec<String> = bytes.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    let word = |at: usize| words.get(at).cloned().unwrap_or_default();
    let value = |at: usize| bytes.get(at).cloned().unwrap_or_default();
    match interface {
        "kv1" => kv1(call, place, &word(0), &value(1)).map_err(|error| format!("{error:?}")),
        "kv2" => kv2(call, place, &word(0), &value(1)).map_err(|error| format!("{error:?}")),
        "redis1" => redis1(call, &address(place), &words, &bytes, lines).map_err(|error| format!("{error:?}")),
        "redis2" => redis2(call, &address(place), &words, &bytes, lines).map_err(|error| format!("{error:?}")),
        _ => Err("no such interface".to_owned()),
    }
}

fn kv1(call: &str, store: &str, key: &str, value: &[u8]) -> Result<String, one::key_value::Error> {
    use one::key_value as kv;
    if call == "made-up" {
        return kv::get(4711, key).map(|value| hex(&value));
    }
    let store = kv::open(store)?;
    Ok(match call {
        "get" => hex(&kv::get(store, key)?),
        "set" => kv::set(store, key, value).map(|()| "set".to_owned())?,
        "delete" => kv::delete(store, key).map(|()| "deleted".to_owned())?,
        "exists" => kv::exists(store, key)?.to_string(),
        "get-keys" => kv::get_keys(store)?.join(" "),
        "closed" => {
            kv::close(store);
            hex(&kv::get(store, key)?)
        }
        _ => "no such call".to_owned(),
    })
}

fn kv2(call: &str, label: &str, key: &str, value: &[u8]) -> Result<String, two::key_value::Error> {
    let store = two::key_value::Store::open(label)?;
    Ok(match call {
        "get" => store.get(key)?.map_or_else(|| "(none)".to_owned(), |value| hex(&value)),
        "set" => store.set(key, value).map(|()| "set".to_owned())?,
        "delete" => store.delete(key).map(|()| "deleted".to_owned())?,
        "exists" => store.exists(key)?.to_string(),
        "get-keys" => store.get_keys()?.join(" "),
        _ => "no such call".to_owned(),
    })
}

fn redis1(
    call: &str,
    address: &str,
    words: &[String],
    bytes: &[Vec<u8>],
    lines: &[String],
) -> Result<String, one::redis_types::Error> {
    use one::redis;
    let (key, value) = (words.first().cloned().unwrap_or_default(), bytes.get(1).cloned().unwrap_or_default());
    let rest = words.get(1..).unwrap_or_default();
    Ok(match call {
        "publish" => redis::publish(address, &key, &value).map(|()| "published".to_owned())?,
        "get" => hex(&redis::get(address, &key)?),
        "set" => redis::set(address, &key, &value).map(|()| "set".to_owned())?,
        "incr" => redis::incr(address, &key)?.to_string(),
        "del" => redis::del(address, words)?.to_string(),
        "sadd" => redis::sadd(address, &key, rest)?.to_string(),
        "smembers" => redis::smembers(address, &key)?.join(" "),
        "srem" => redis::srem(address, &key, rest)?.to_string(),
        "execute" => {
            use one::redis_types::{RedisParameter as P, RedisResult as R};
            let arguments: Vec<P> = lines.iter().skip(1).map(|line| match line.strip_prefix("i:") {
                Some(number) => P::Int64(number.parse().unwrap_or_default()),
                None => P::Binary(unhex(line)),
            }).collect();
            let told = |reply| match reply {
                R::Nil => "nil".to_owned(),
                R::Status(text) => format!("status {text}"),
                R::Int64(number) => format!("int {number}"),
                R::Binary(bytes) => format!("bytes {}", hex(&bytes)),
            };
            redis::execute(address, &key, &arguments)?.into_iter().map(told).collect::<Vec<_>>().join("\n")
        }
        _ => "no such call".to_owned(),
    })
}

fn redis2(
    call: &str,
    address: &str,
    words: &[String],
    bytes: &[Vec<u8>],
    lines: &[String],
) -> Result<String, two::redis::Error> {
    let connection = two::redis::Connection::open(address)?;
    let (key, value) = (words.first().cloned().unwrap_or_default(), bytes.get(1).cloned().unwrap_or_default());
    let rest = words.get(1..).unwrap_or_default();
    Ok(match call {
        "publish" => connection.publish(&key, &value).map(|()| "published".to_owned())?,
        // Sends until a call is refused.
        "flood" => {
            let mut sent = 0;
            loop {
                match connection.publish(&key, &value) {
                    Ok(()) => sent += 1,
                    Err(error) => break format!("{error:?} after {sent}"),
                }
            }
        }
        "get" => connection.get(&key)?.map_or_else(|| "(none)".to_owned(), |value| hex(&value)),
        "set" => connection.set(&key, &value).map(|()| "set".to_owned())?,
        "incr" => connection.incr(&key)?.to_string(),
        "del" => connection.del(words)?.to_string(),
        "sadd" => connection.sadd(&key, rest)?.to_string(),
        "smembers" => connection.smembers(&key)?.join(" "),
        "srem" => connection.srem(&key, rest)?.to_string(),
        "execute" => {
            use two::redis::{RedisParameter as P, RedisResult as R};
            let arguments: Vec<P> = lines.iter().skip(1).map(|line| match line.strip_prefix("i:") {
                Some(number) => P::Int64(number.parse().unwrap_or_default()),
                None => P::Binary(unhex(line)),
            }).collect();
            let told = |reply| match reply {
                R::Nil => "nil".to_owned(),
                R::Status(text) => format!("status {text}"),
                R::Int64(number) => format!("int {number}"),
                R::Binary(bytes) => format!("bytes {}", hex(&bytes)),
            };
            connection.execute(&key, &arguments)?.into_iter().map(told).collect::<Vec<_>>().join("\n")
        }
        _ => "no such call".to_owned(),
    })
}
