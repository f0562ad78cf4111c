#!/usr/bin/env bash
# http-cache-semantics 3.0.0 keeps one of two `Link` fields, and answers with a `Date` that is no date of HTTP.
#
# Version:   http-cache-semantics 3.0.0 (Cargo's registry), checked with Rust 1.95.0.
# Source:    the crate's src/lib.rs; RFC 9110 section 5.3 (fields that are there several times), section 5.6.7 (a sender writes
#            IMF-fixdate, which ends with GMT) and section 6.6.1 (a recipient does not change the Date that it received).
# Behaviour: a stored response had two `Link` fields and a `Date`. The fields that `before_request` hands out for it have the
#            second `Link` alone, and a `Date` of now, which ends with "+0000".
# Expected:  a cache sends what it stored: both fields, as the header map that the policy was made from had them, and the
#            origin's own date.
# Seen:      2026-12-01: link: ["</b>; rel=preload"], date: Tue, 01 Dec 2026 06:52:48 +0000.
#
# Exits with 0 while this holds, and with 1 when it does not any more.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
http = "1"
http-cache-semantics = "=3.0.0"
httpdate = "1"
TOML
cat >src/main.rs <<'RUST'
use std::time::SystemTime;

use http_cache_semantics::{BeforeRequest, CachePolicy};

fn main() {
    let request = http::Request::builder().uri("http://shop.example/").body(()).unwrap();
    let response = http::Response::builder()
        .header("cache-control", "max-age=3600")
        .header("date", httpdate::fmt_http_date(SystemTime::now()))
        .header("link", "</a>; rel=preload")
        .header("link", "</b>; rel=preload")
        .body(())
        .unwrap();
    let BeforeRequest::Fresh(parts) = CachePolicy::new(&request, &response).before_request(&request, SystemTime::now())
    else {
        return println!("stale");
    };
    let links: Vec<_> = parts.headers.get_all("link").iter().collect();
    println!("link: {links:?}, date: {}", parts.headers["date"].to_str().unwrap());
}
RUST
export CARGO_TARGET_DIR="$work/target" RUSTUP_AUTO_INSTALL=0
said=$(cargo run -q)
echo "$said"
[[ $said == 'link: ["</b>; rel=preload"], date: '*' +0000' ]] || { echo "this is not what was seen" >&2; exit 1; }
