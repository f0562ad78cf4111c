//! A core module of Spin 0.5 to 1.5 that handles HTTP requests: `/echo`, `/redis/{address}`, `/store/{name}`,
//! `/config/{name}`, `/fetch` with an address as the body, `/status/{number}`, `/big/{bytes}`.

mod abi;

use abi::{Pair, Store, config, execute, given, pairs, request, sadd, smembers};

/// The response in the memory layout of that time's host: the tag of an option takes a pointer's width before its list.
#[repr(C)]
struct Response {
    status: u16,
    has_headers: u32,
    headers: *const Pair,
    headers_len: usize,
    has_body: u32,
    body: *const u8,
    body_len: usize,
}

#[unsafe(export_name = "handle-http-request")]
unsafe extern "C" fn handle(
    method: i32,
    uri: *const u8,
    uri_len: usize,
    headers: *const Pair,
    headers_len: usize,
    _params: *const Pair,
    params_len: usize,
    has_body: i32,
    body: *const u8,
    body_len: usize,
) -> *const Response {
    assert_eq!(params_len, 0);
    let uri = String::from_utf8(unsafe { given(uri, uri_len) }).unwrap();
    let headers = unsafe { pairs(headers, headers_len) };
    let body = if has_body == 0 { Vec::new() } else { unsafe { given(body, body_len) } };
    let (status, headers, body) = answer(method, &uri, &headers, body);
    let slice = |text: String| {
        let text: &'static str = Box::leak(text.into_boxed_str());
        abi::Slice { at: text.as_ptr(), len: text.len() }
    };
    let headers: Vec<Pair> = headers.into_iter().map(|(name, value)| Pair { name: slice(name), value: slice(value) }).collect();
    let (headers, body): (&'static [Pair], &'static [u8]) = (Box::leak(headers.into_boxed_slice()), Box::leak(body.into_boxed_slice()));
    Box::leak(Box::new(Response {
        status,
        has_headers: 1,
        headers: headers.as_ptr(),
        headers_len: headers.len(),
        has_body: 1,
        body: body.as_ptr(),
        body_len: body.len(),
    }))
}

fn answer(method: i32, uri: &str, headers: &[(String, String)], body: Vec<u8>) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let path = uri.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.splitn(3, '/').skip(1).collect();
    let text = |status: u16, text: String| (status, vec![("content-type".to_owned(), "text/plain".to_owned())], text.into_bytes());
    match parts.as_slice() {
        ["echo"] => {
            let seen = headers.iter().find(|(name, _)| name == "x-word").map(|(_, value)| value.clone()).unwrap_or_default();
            let headers = vec![
                ("x-method".to_owned(), method.to_string()),
                ("x-uri".to_owned(), uri.to_owned()),
                ("x-word".to_owned(), seen),
                ("set-cookie".to_owned(), "a=1".to_owned()),
                ("set-cookie".to_owned(), "b=2".to_owned()),
                ("connection".to_owned(), "x-word".to_owned()),
            ];
            (200, headers, body)
        }
        ["redis", place] => {
            let address = format!("redis://{place}");
            let told = sadd(&address, "s", &["a", "b"]).and_then(|added| {
                let mut members = smembers(&address, "s")?;
                members.sort();
                let replies = execute(&address, "SET", &[b"k", b"v"])?;
                let more = execute(&address, "GET", &[b"k"])?;
                Ok(format!("{added} {members:?} {replies:?} {more:?}"))
            });
            text(if told.is_ok() { 200 } else { 502 }, told.unwrap_or_else(|error| format!("error {error}")))
        }
        ["store", name] => {
            let told = Store::open(name).and_then(|store| {
                let before = store.get("k").map(|value| String::from_utf8(value).unwrap());
                store.set("k", &body)?;
                Ok(format!("{before:?} {:?}", store.get("k").map(|value| String::from_utf8(value).unwrap())))
            });
            text(if told.is_ok() { 200 } else { 502 }, told.unwrap_or_else(|error| format!("error {error}")))
        }
        ["config", name] => text(200, format!("{:?}", config(name))),
        ["fetch"] => {
            let at = String::from_utf8(body).unwrap();
            match request(1, &at, &[("x-word", "from spin 0.5")], Some(b"sent")) {
                Ok((status, headers, body)) => {
                    let headers = headers.into_iter().filter(|(name, _)| name.starts_with("x-")).collect();
                    (status, headers, body)
                }
                Err(error) => text(502, format!("error {error}")),
            }
        }
        ["status", number] => (number.parse().unwrap_or(500), Vec::new(), Vec::new()),
        ["big", bytes] => (200, Vec::new(), vec![b'x'; bytes.parse().unwrap_or(0)]),
        _ => text(404, "no such path".to_owned()),
    }
}
