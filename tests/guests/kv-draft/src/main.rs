//! Every call of wasi:keyvalue 0.2.0-draft, on the paths of the `kv` guest; and `get-many` of draft2 in Spin's form, as
//! `/{store}/get-many-of-spin/x`.

use wstd::http::{Body, Error, Request, Response, StatusCode};

mod draft {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft",
        world: "imports",
        generate_all,
    });
}
mod of_spin {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft2-spin",
        world: "imports",
        generate_all,
    });
}
use draft::wasi::keyvalue::{atomics, batch, store};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let value = request.into_body().contents().await?.to_vec();
    let mut parts = path.splitn(4, '/').skip(1);
    let mut part = || parts.next().unwrap_or_default();
    let (name, call, key) = (part(), part(), part());
    let name = if name == "-" { "" } else { name };
    let (status, text) = match run(name, call, key, &value) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::BAD_GATEWAY, error.into_bytes()),
    };
    Ok(Response::builder().status(status).body(text.into())?)
}

fn run(name: &str, call: &str, key: &str, value: &[u8]) -> Result<Vec<u8>, String> {
    let words: Vec<String> = String::from_utf8_lossy(value).lines().map(str::to_owned).collect();
    if call == "get-many-of-spin" {
        return get_many_of_spin(name, &words).map_err(|error| format!("{error:?}"));
    }
    of_draft(name, call, key, value, &words).map_err(|error| format!("{error:?}"))
}

fn of_draft(name: &str, call: &str, key: &str, value: &[u8], words: &[String]) -> Result<Vec<u8>, store::Error> {
    let bucket = store::open(name)?;
    Ok(match call {
        "get" => bucket.get(key)?.unwrap_or_else(|| b"(none)".to_vec()),
        "set" => bucket.set(key, value).map(|()| b"set".to_vec())?,
        "delete" => bucket.delete(key).map(|()| b"deleted".to_vec())?,
        "exists" => bucket.exists(key)?.to_string().into_bytes(),
        "list" => {
            let (mut pages, mut keys, mut cursor) = (0, Vec::new(), None);
            loop {
                let page = bucket.list_keys(cursor)?;
                pages += 1;
                keys.extend(page.keys);
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            keys.sort();
            format!("{pages} pages: {}", keys.join(" ")).into_bytes()
        }
        "list-from" => bucket.list_keys(key.parse().ok())?.keys.join(" ").into_bytes(),
        "increment" => {
            let delta = String::from_utf8_lossy(value).parse().unwrap_or(1);
            atomics::increment(&bucket, key, delta)?.to_string().into_bytes()
        }
        "get-many" => {
            let found = batch::get_many(&bucket, words)?.into_iter().map(|found| match found {
                Some((key, value)) => format!("{key}={}", String::from_utf8_lossy(&value)),
                None => "(none)".to_owned(),
            });
            found.collect::<Vec<_>>().join(" ").into_bytes()
        }
        "set-many" => {
            let pairs = words.iter().filter_map(|line| line.split_once('='));
            let pairs: Vec<_> = pairs.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect();
            batch::set_many(&bucket, &pairs)?;
            format!("set {}", pairs.len()).into_bytes()
        }
        "delete-many" => batch::delete_many(&bucket, words).map(|()| b"deleted".to_vec())?,
        other => format!("no such call: {other}").into_bytes(),
    })
}

fn get_many_of_spin(name: &str, words: &[String]) -> Result<Vec<u8>, of_spin::wasi::keyvalue::store::Error> {
    use of_spin::wasi::keyvalue::{batch, store};
    let found = batch::get_many(&store::open(name)?, words)?.into_iter().map(|(key, value)| {
        let value = value.map_or_else(|| "(none)".to_owned(), |value| String::from_utf8_lossy(&value).into_owned());
        format!("{key}={value}")
    });
    Ok(found.collect::<Vec<_>>().join(" ").into_bytes())
}
