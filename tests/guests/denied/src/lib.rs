//! Calls Spin interfaces that the gateway does not serve, one per path, and reports the error: a guest that can do without
//! goes on.

use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{wit_future, wit_stream};

mod spin {
    wit_bindgen::generate!({ path: "wit", world: "tollgate:denied/imports", generate_all });
}

use spin::fermyon::spin::{llm, mqtt, rdbms_types};
use spin::spin::mysql::mysql;
use spin::spin::postgres::postgres;
use spin::spin::sqlite::sqlite;

wasip3::http::service::export!(Denied);

struct Denied;

fn error<T, E: std::fmt::Debug>(answer: Result<T, E>) -> String {
    answer.map_or_else(|error| format!("{error:?}"), |_| "no error".to_owned())
}

async fn call(path: &str) -> String {
    match path {
        "/sqlite" => error(sqlite::Connection::open("default")),
        "/sqlite-async" => error(sqlite::Connection::open_async("default".to_owned()).await),
        "/mysql" => error(mysql::Connection::open("mysql://db".to_owned()).await),
        "/mqtt" => error(mqtt::Connection::open("mqtt://broker", "", "", 1)),
        "/llm" => error(llm::generate_embeddings("model", &["text".to_owned()])),
        "/postgres" => {
            let builder = postgres::ConnectionBuilder::new("postgres://db");
            format!("{} {}", error(builder.set_ca_root("pem")), error(builder.build()))
        }
        "/many" => {
            let all = (0..50).filter(|_| sqlite::Connection::open("default").is_err());
            all.count().to_string()
        }
        "/nothing" => rdbms_types::nothing().to_string(),
        _ => "no such path".to_owned(),
    }
}

impl wasip3::exports::http::handler::Guest for Denied {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let said = call(&request.get_path_with_query().unwrap_or_default()).await;
        let (mut writer, body) = wit_stream::new();
        let (trailers_writer, trailers) = wit_future::new(|| Ok(None));
        let (response, _) = Response::new(Fields::new(), Some(body), trailers);
        wasip3::wit_bindgen::spawn_local(async move {
            writer.write_all(said.into_bytes()).await;
            drop(trailers_writer);
        });
        Ok(response)
    }
}
