//! Holds as many calls and requests of WASI 0.3 as the host allows: `/{what}/{count}/{bytes}`. The answer says how many it
//! got, and the error of the first that it did not get.

use futures::future::join_all;
use spin_sdk::http::{IntoResponse, Request, StatusCode};
use spin_sdk::key_value::Store;
use wasip3::filesystem::preopens;
use wasip3::filesystem::types::{self, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::http::types::{Fields, Method, Request as Leaving, Scheme};
use wasip3::wit_future;

#[spin_sdk::http_service]
async fn handle(request: Request) -> anyhow::Result<impl IntoResponse> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(1);
    let what = parts.next().unwrap_or_default();
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let (count, bytes): (usize, usize) = (number(), number());
    let said = match what {
        "calls" => calls(count, bytes).await,
        "open" => stores(count).await,
        "read" => content().await,
        "names" => names().await,
        "files" => files(count).await,
        "folders" => folders(count).await,
        _ => texts(what, count, bytes),
    };
    Ok((StatusCode::OK, said))
}

/// All calls run at once.
async fn calls(count: usize, bytes: usize) -> String {
    let Ok(store) = Store::open("default").await else { return "no store".to_owned() };
    let value = vec![b'v'; bytes];
    let done = join_all((0..count).map(|n| store.set(format!("key{n}"), &value))).await;
    let set = done.iter().filter(|done| done.is_ok()).count();
    let told = done.into_iter().find_map(Result::err).map(|error| format!(" {error:?}"));
    format!("{set}{}", told.unwrap_or_default())
}

async fn stores(count: usize) -> String {
    let mut all = Vec::new();
    for _ in 0..count {
        match Store::open("default").await {
            Ok(store) => all.push(store),
            Err(error) => return format!("{} {error:?}", all.len()),
        }
    }
    all.len().to_string()
}

fn root() -> types::Descriptor {
    preopens::get_directories().swap_remove(0).0
}

async fn file() -> Result<types::Descriptor, types::ErrorCode> {
    root().open_at(PathFlags::empty(), "large.txt".to_owned(), OpenFlags::empty(), DescriptorFlags::READ).await
}

/// Length of a file, and the sum of its bytes.
async fn content() -> String {
    let file = file().await.expect("a file");
    let (mut stream, ended) = file.read_via_stream(0);
    let (mut length, mut sum) = (0, 0);
    loop {
        let (_, piece) = stream.read(Vec::with_capacity(100_000)).await;
        if piece.is_empty() {
            break;
        }
        length += piece.len();
        sum += piece.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    }
    format!("{length} {sum} {:?}", ended.await)
}

async fn names() -> String {
    let (stream, ended) = root().read_directory();
    let mut names: Vec<String> = stream.collect().await.into_iter().map(|entry| format!("{}:{:?}", entry.name, entry.type_)).collect();
    names.sort();
    let (nothing, of_file) = file().await.expect("a file").read_directory();
    let none = nothing.collect().await.len();
    format!("{} {:?} {none} {:?}", names.join(" "), ended.await, of_file.await)
}

/// Opens streams of a file whose descriptor is gone.
async fn files(count: usize) -> String {
    let mut all = Vec::new();
    for _ in 0..count {
        match file().await {
            Ok(file) => all.push(file.read_via_stream(0)),
            Err(error) => return format!("{} {error:?}", all.len()),
        }
    }
    all.len().to_string()
}

/// Opens directory listings that are never read.
async fn folders(count: usize) -> String {
    let root = root();
    let all: Vec<_> = (0..count).map(|_| root.read_directory()).collect();
    let mut refused = 0;
    for (stream, ended) in all {
        drop(stream);
        refused += usize::from(ended.await.is_err());
    }
    format!("{refused} refused")
}

/// Builds requests that are never sent, each with a text.
fn texts(what: &str, count: usize, bytes: usize) -> String {
    let text = "a".repeat(bytes);
    let mut all = Vec::new();
    for _ in 0..count {
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (request, _sent) = Leaving::new(Fields::new(), None, trailers, None);
        let set = match what {
            "authority" => request.set_authority(Some(&text)),
            "method" => request.set_method(&Method::Other(text.clone())),
            "path" => request.set_path_with_query(Some(&format!("/{}", text.split_at(1).1))),
            _ => request.set_scheme(Some(&Scheme::Other(text.clone()))),
        };
        if set.is_err() {
            return format!("{} refused", all.len());
        }
        all.push(request);
    }
    all.len().to_string()
}
