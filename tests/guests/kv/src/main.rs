//! Every call of wasi:keyvalue, one path each: `/{store}/{call}/{key}`, the value as the body, the answer as text.

use wstd::http::{Body, Error, Request, Response, StatusCode};

wit_bindgen::generate!({
    path: "../../../gateway/wit/wasi-keyvalue-0.2.0-draft2",
    world: "imports",
    generate_all,
});
use wasi::keyvalue::{atomics, batch, store};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let path = request.uri().path().to_owned();
    let value = request.into_body().contents().await?.to_vec();
    let mut parts = path.splitn(4, '/').skip(1);
    let (name, call, key) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let name = if name == "-" { "" } else { name };
    let (status, text) = match run(name, call, key, &value) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:?}").into_bytes()),
    };
    Ok(Response::builder().status(status).body(text.into())?)
}

fn run(name: &str, call: &str, key: &str, value: &[u8]) -> Result<Vec<u8>, store::Error> {
    let bucket = store::open(name)?;
    let words = || -> Vec<String> {
        String::from_utf8_lossy(value).lines().map(str::to_owned).collect()
    };
    Ok(match call {
        "get" => bucket.get(key)?.unwrap_or_else(|| b"(none)".to_vec()),
        "set" => bucket.set(key, value).map(|()| b"set".to_vec())?,
        "delete" => bucket.delete(key).map(|()| b"deleted".to_vec())?,
        "exists" => bucket.exists(key)?.to_string().into_bytes(),
        "list" => {
            let mut pages = 0;
            let mut keys = Vec::new();
            let mut cursor = None;
            loop {
                let page = bucket.list_keys(cursor.as_deref())?;
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
        "list-from" => {
            let page = bucket.list_keys(Some(key))?;
            page.keys.join(" ").into_bytes()
        }
        "increment" => {
            let delta = String::from_utf8_lossy(value).parse().unwrap_or(1);
            atomics::increment(&bucket, key, delta)?.to_string().into_bytes()
        }
        "get-many" => {
            let found = batch::get_many(&bucket, &words())?;
            let texts = found.into_iter().map(|found| match found {
                Some((key, value)) => format!("{key}={}", String::from_utf8_lossy(&value)),
                None => "(none)".to_owned(),
            });
            texts.collect::<Vec<_>>().join(" ").into_bytes()
        }
        "set-many" => {
            let pairs: Vec<(String, Vec<u8>)> = words()
                .iter()
                .filter_map(|line| line.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()))
                .collect();
            batch::set_many(&bucket, &pairs)?;
            format!("set {}", pairs.len()).into_bytes()
        }
        "delete-many" => {
            batch::delete_many(&bucket, &words())?;
            b"deleted".to_vec()
        }
        // Adds one by compare-and-swap only, and retries until it succeeds. Reports how often the swap failed.
        "cas-add" => {
            let mut cas = atomics::Cas::new(&bucket, key)?;
            let mut beaten = 0;
            loop {
                let now = cas.current()?.unwrap_or_else(|| b"0".to_vec());
                let next = String::from_utf8_lossy(&now).parse::<u64>().unwrap_or(0) + 1;
                match atomics::swap(cas, next.to_string().as_bytes()) {
                    Ok(()) => break format!("{next} after {beaten}").into_bytes(),
                    Err(atomics::CasError::StoreError(error)) => return Err(error),
                    Err(atomics::CasError::CasFailed(fresh)) => {
                        beaten += 1;
                        cas = fresh;
                    }
                }
            }
        }
        // Changes the value between read and swap: the swap must fail and return the present value.
        "cas-beaten" => {
            bucket.set(key, b"before")?;
            let cas = atomics::Cas::new(&bucket, key)?;
            bucket.set(key, b"meanwhile")?;
            match atomics::swap(cas, b"after") {
                Ok(()) => b"swapped, wrongly".to_vec(),
                Err(atomics::CasError::StoreError(error)) => return Err(error),
                Err(atomics::CasError::CasFailed(fresh)) => {
                    [b"beaten by ".to_vec(), fresh.current()?.unwrap_or_default()].concat()
                }
            }
        }
        "get-100" => {
            for _ in 0..100 {
                bucket.get(key)?;
            }
            b"got 100".to_vec()
        }
        // Writes until a write is refused.
        "flood" => {
            let mut written = 0;
            loop {
                match bucket.set(&format!("{key}-{written}"), value) {
                    Ok(()) => written += 1,
                    Err(error) => break format!("{error:?} after {written}").into_bytes(),
                }
            }
        }
        other => format!("no such call: {other}").into_bytes(),
    })
}
