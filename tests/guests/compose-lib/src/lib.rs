//! A library: exports `acme:lib/api`, which tries to use capabilities that a manifest may grant or withhold.

mod tries;

wit_bindgen::generate!({ path: "wit", world: "provider" });

struct Library;
export!(Library);

impl exports::acme::lib::api::Guest for Library {
    fn tries(what: String) -> String {
        tries::tries(&what)
    }
}
