//! A response whose body is written while the client reads it.

use wasip3::http::types::{Fields, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

pub fn page(words: &str) -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(Fields::new(), Some(body), trailers);
    let words = words.as_bytes().to_vec();
    wit_bindgen::spawn_local(async move {
        writer.write_all(words).await;
        drop(trailers_writer);
    });
    response
}
