//! A component of wasi:http 0.3: says hello on every path, sends the body back on `/echo`, and misbehaves when the path
//! asks for it.

mod page;

use std::sync::atomic::{AtomicU32, Ordering};

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

use page::page;

wasip3::http::service::export!(Hello);

struct Hello;

/// Requests that this instance has answered.
static ANSWERED: AtomicU32 = AtomicU32::new(0);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        match path.as_str() {
            "/trap" => std::arch::wasm32::unreachable(),
            "/loop" => loop {
                std::hint::black_box(());
            },
            "/count" => return Ok(page(&format!("{}", ANSWERED.fetch_add(1, Ordering::Relaxed) + 1))),
            "/print" => {
                println!("request {}", ANSWERED.fetch_add(1, Ordering::Relaxed) + 1);
                return Ok(page("printed"));
            }
            "/hold" => {
                // Leaks 8 MiB.
                ANSWERED.fetch_add(1, Ordering::Relaxed);
                std::mem::forget(std::hint::black_box(vec![1u8; 8 << 20]));
                return Ok(page("held"));
            }
            "/error" => return Err(ErrorCode::InternalError(Some("by request".to_owned()))),
            "/echo" => {
                let (_, done) = wit_future::new(|| Ok(()));
                let (body, trailers) = Request::consume_body(request, done);
                let (response, _) = Response::new(Fields::new(), Some(body), trailers);
                return Ok(response);
            }
            _ => {}
        }
        let (mut writer, body) = wit_stream::new();
        let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        wit_bindgen::spawn_local(async move {
            writer.write_all(b"Hello from wasi:http 0.3".to_vec()).await;
            if path == "/trap-in-body" {
                std::arch::wasm32::unreachable()
            }
            drop(trailers_writer);
        });
        Ok(response)
    }
}
