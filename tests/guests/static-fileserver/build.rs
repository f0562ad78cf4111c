//! Reserves memory for what a request allocates: growing memory costs the gateway more than the whole page.

fn main() {
    println!("cargo::rustc-link-arg=--initial-heap=262144");
}
