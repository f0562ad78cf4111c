//! The same application with its library compiled in, for comparison.

#[path = "../../compose-app/src/handler.rs"]
mod handler;
#[path = "../../compose-lib/src/tries.rs"]
mod tries;

fn of_library(what: &str) -> String {
    tries::tries(what)
}
