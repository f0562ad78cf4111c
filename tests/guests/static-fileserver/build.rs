//! Room for what a request allocates, from the start: growing the memory costs the gateway more than the whole page.

fn main() {
    println!("cargo::rustc-link-arg=--initial-heap=262144");
}
