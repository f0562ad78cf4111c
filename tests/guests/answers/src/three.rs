//! wasi:http 0.3: the handler returns the response, and a task writes its body.

use wasip3::clocks::monotonic_clock;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_bindgen, wit_future, wit_stream};

use crate::{LONG, trap};

struct Three;
wasip3::http::service::export!(Three);

/// What the task does after it has written.
#[derive(Clone, Copy)]
enum Then {
    End,
    /// Traps before the end of the body.
    Trap,
    Exit,
    /// Traps after the end of the body.
    EndAndTrap,
    EndAndExit,
    WaitAndEnd,
}

impl wasip3::exports::http::handler::Guest for Three {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        match request.get_path_with_query().unwrap_or_default().as_str() {
            "/which" => Ok(answer(None, b"0.3", Then::End)),
            "/nothing-trap" => trap(),
            "/nothing-exit" => std::process::exit(1),
            "/open-trap" => Ok(answer(None, b"half", Then::Trap)),
            "/open-exit" => Ok(answer(None, b"half", Then::Exit)),
            "/whole-trap" => Ok(answer(None, b"whole", Then::EndAndTrap)),
            "/whole-exit" => Ok(answer(None, b"whole", Then::EndAndExit)),
            "/short" => Ok(answer(Some("10"), b"short", Then::End)),
            "/long" => Ok(answer(Some("4"), b"longer", Then::End)),
            "/short-late" => Ok(answer(Some("10"), b"short", Then::WaitAndEnd)),
            "/no-body" => {
                let (_writer, trailers) = wit_future::new(|| Ok(None));
                Ok(Response::new(fields(Some("10")), None, trailers).0)
            }
            _ => Err(ErrorCode::InternalError(Some("on purpose".to_owned()))),
        }
    }
}

fn fields(length: Option<&str>) -> Fields {
    let fields = Fields::new();
    if let Some(length) = length {
        fields.append("content-length", length.as_bytes()).expect("room for a header");
    }
    fields
}

fn answer(length: Option<&str>, words: &'static [u8], then: Then) -> Response {
    let (mut writer, body) = wit_stream::new();
    let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
    let (response, _) = Response::new(fields(length), Some(body), trailers);
    wit_bindgen::spawn_local(async move {
        writer.write_all(words.to_vec()).await;
        if matches!(then, Then::Trap | Then::Exit | Then::WaitAndEnd) {
            monotonic_clock::wait_for(LONG).await;
        }
        match then {
            Then::Trap => trap(),
            Then::Exit => std::process::exit(1),
            Then::End | Then::WaitAndEnd | Then::EndAndTrap | Then::EndAndExit => {}
        }
        drop(writer);
        drop(trailers_writer);
        if matches!(then, Then::EndAndTrap | Then::EndAndExit) {
            monotonic_clock::wait_for(LONG).await;
        }
        match then {
            Then::EndAndTrap => trap(),
            Then::EndAndExit => std::process::exit(1),
            Then::End | Then::WaitAndEnd | Then::Trap | Then::Exit => {}
        }
    });
    response
}
