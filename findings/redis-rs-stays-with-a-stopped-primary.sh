#!/usr/bin/env bash
# The redis crate's cluster client leaves a primary that died for the one that took over, and never one that stands still.
#
# Version:   redis 1.8.1 (Cargo's registry; feature cluster-async), Redis 7.0.15 (Debian's redis-server), checked with Rust 1.95.0.
# Source:    Redis cluster specification, "Clients first connection and handling of redirections": a client refreshes its map of
#            slots when a call fails for longer than it should; the crate's ClusterClientBuilder::response_timeout and ::retries.
# Behaviour: three primaries with a replica each, and a SET every 50 ms with a response timeout of 500 ms. Where a primary is
#            killed, its replica takes over and calls go again. Where it is stopped (as by a frozen virtual machine, or a disk
#            that does not answer), its replica takes over all the same, and the client asks the stopped one for ever: a call
#            that ran out of its time makes the client neither connect anew nor ask for the slots.
# Expected:  a call that ran out of time is reason enough to look who has the slot now, as a closed connection is.
# Seen:      2026-12-01: "killed: served again, stopped: not served within 25 s of the takeover".
#
# Exits with 0 while this holds, and with 1 when it does not any more.
set -euo pipefail
command -v redis-server >/dev/null && command -v redis-cli >/dev/null || { echo "redis-server is needed (Debian's package)" >&2; exit 2; }
work=$(mktemp -d)
pids=()
end() {
    for pid in "${pids[@]}"; do kill -CONT "$pid" 2>/dev/null && kill -KILL "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap end EXIT
cd "$work"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
redis = { version = "=1.8.1", default-features = false, features = ["tokio-comp", "cluster-async"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread", "time"] }
TOML
cat >src/main.rs <<'RUST'
use std::path::Path;
use std::time::{Duration, Instant};

/// Asks until a call is answered after the file `over` is there: arguments are a key and servers.
#[tokio::main]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (key, servers) = words.split_first().unwrap();
    let client = redis::cluster::ClusterClient::builder(servers.to_vec())
        .connection_timeout(Duration::from_millis(500))
        .response_timeout(Duration::from_millis(500))
        .build()
        .unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    println!("ready");
    let mut over: Option<Instant> = None;
    loop {
        if over.is_none() && Path::new("over").exists() {
            over = Some(Instant::now());
        }
        let mut set = redis::cmd("SET");
        let call = set.arg(key).arg("v").query_async::<()>(&mut connection);
        // The client tries again by itself; that may take longer than one answer.
        let went = matches!(tokio::time::timeout(Duration::from_secs(5), call).await, Ok(Ok(())));
        match over {
            Some(_) if went => return println!("served again"),
            Some(at) if at.elapsed() > Duration::from_secs(25) => return println!("not served within 25 s of the takeover"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}
RUST
export CARGO_TARGET_DIR="$work/target" RUSTUP_AUTO_INSTALL=0
cargo build -q
# fails SIGNAL: what the client says when the primary of a key gets this signal.
fails() {
    local ports=() own=() port address
    rm -f over
    for _ in 1 2 3 4 5 6; do
        port=$(python3 -c 'import random; print(random.randrange(20000, 29000))')
        mkdir "$port-$1"
        (cd "$port-$1" && exec redis-server --port "$port" --bind 127.0.0.1 --cluster-enabled yes --cluster-node-timeout 2000 --save "" >log 2>&1) &
        own+=("$!") pids+=("$!") ports+=("$port")
        disown "$!"
    done
    sleep 1
    redis-cli --cluster create "${ports[@]/#/127.0.0.1:}" --cluster-replicas 1 --cluster-yes >/dev/null
    # A replica that has not seen its primary yet cannot take over.
    for port in "${ports[@]}"; do until redis-cli -p "$port" info replication | grep -Eq 'master_link_status:up|connected_slaves:1'; do sleep 0.2; done; done
    sleep 2
    local key=k first
    for first in $(seq 100); do [ "$(redis-cli -p "${ports[0]}" cluster keyslot "k$first")" -le 5460 ] && key=k$first && break; done
    ./target/debug/finding "$key" "${ports[@]/#/redis://127.0.0.1:}" >"said-$1" &
    local client=$!
    until grep -q ready "said-$1"; do sleep 0.1; done
    kill "-$1" "${own[0]}"
    address=${ports[0]}
    until redis-cli -p "${ports[1]}" cluster nodes | grep -v ":$address@" | grep -Eq 'master.* 0-5460'; do sleep 0.2; done
    touch over
    wait "$client"
    tail -n 1 "said-$1"
    for pid in "${own[@]}"; do kill -CONT "$pid" 2>/dev/null && kill -KILL "$pid" 2>/dev/null || true; done
}
fails KILL >killed
fails STOP >stopped
said="killed: $(cat killed), stopped: $(cat stopped)"
echo "$said"
[ "$said" = "killed: served again, stopped: not served within 25 s of the takeover" ] || { echo "this is not what was seen" >&2; exit 1; }
