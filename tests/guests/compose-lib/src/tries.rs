//! What a part of a component gets when it uses a capability. The library and the application both try.

mod spin {
    wit_bindgen::generate!({
        path: "../../../gateway/wit/fermyon-spin-2.0.0",
        world: "imports",
        generate_all,
    });
}

use spin::fermyon::spin::{key_value, redis, variables};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{Fields, OutgoingRequest, Scheme};

pub fn tries(what: &str) -> String {
    match what {
        "kv" => match key_value::Store::open("default") {
            Ok(store) => format!("opened, count is {}", count(&store)),
            Err(error) => format!("{error:?}"),
        },
        "redis" => match redis::Connection::open("redis://localhost:6379") {
            Ok(_) => "opened".to_owned(),
            Err(error) => format!("{error:?}"),
        },
        "variable" => variables::get("greeting").unwrap_or_else(|error| format!("{error:?}")),
        "env" => wasip2::cli::environment::get_environment().len().to_string(),
        "files" => wasip2::filesystem::preopens::get_directories().len().to_string(),
        "outbound" => {
            let request = OutgoingRequest::new(Fields::new());
            let (scheme, authority) = (Some(Scheme::Http), Some("127.0.0.1:9"));
            request.set_scheme(scheme.as_ref()).and(request.set_authority(authority)).expect("an address");
            request.set_path_with_query(Some("/")).expect("a path");
            match outgoing_handler::handle(request, None) {
                Ok(_) => "sent".to_owned(),
                Err(code) => format!("{code:?}"),
            }
        }
        // Does next to nothing: many such calls measure what one call costs.
        _ => what.len().to_string(),
    }
}

/// Increments one key of the store.
fn count(store: &key_value::Store) -> u8 {
    let before = store.get("count").expect("a value").and_then(|value| value.first().copied()).unwrap_or_default();
    store.set("count", &[before + 1]).expect("room");
    before + 1
}
