//! A library: exports `acme:lib/api`, which tries to reach what a manifest may or may not let it have.

mod tries;

wit_bindgen::generate!({ path: "wit", world: "provider" });

struct Library;
export!(Library);

impl exports::acme::lib::api::Guest for Library {
    fn tries(what: String) -> String {
        tries::tries(&what)
    }
}
