//! An application with a library: `/lib/WHAT` has `acme:lib/api` try, `/own/WHAT` tries itself.

mod handler;
#[path = "../../compose-lib/src/tries.rs"]
mod tries;

wit_bindgen::generate!({ path: "../compose-lib/wit", world: "user" });

fn of_library(what: &str) -> String {
    acme::lib::api::tries(what)
}
