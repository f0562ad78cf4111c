#!/usr/bin/env bash
# Serves the tenants for the scripts of k6/ and oha/, on https://*.localhost:8443, until you interrupt it:
#   hello    the demo tenant's page            kv       one key, set and read (/-/get/k)
#   limited  hello with 100 requests a second  noisy    a guest that computes, fills memory or fails, by path
#   cold0 …  a hundred tenants, each with its own component
# shellcheck source=loadtest/lib.sh
source "$(dirname "$0")/lib.sh"
(cd "$top" && cargo build --release --locked -p gateway --bin tollgate)
dir=$out/site
site "$dir" $'[tls]\ncertificates = "dev"\n[telemetry.access]\nto = "file"\npath = "../access.log"\n[defaults.quota]\nin_flight = 1000\nwaiting = 1000'
cp -r "$top/tenants/hello" "$dir/tenants/hello"
tenant "$dir" kv kv
tenant "$dir" noisy hostile
tenant "$dir" limited plain-hello $'[quota]\nrequests = { rate = 100, per = "1s", burst = 100 }'
for number in $(seq 0 99); do
    tenant "$dir" "cold$number" plain-hello
    # One more custom section makes it another component.
    { cat "$guests/plain-hello.wasm"; printf '\0\010\004cold%03d' "$number"; } >"$dir/tenants/cold$number/site.wasm"
    sed -i 's/^source = .*/source = "site.wasm"/' "$dir/tenants/cold$number/tenant.toml"
done
exec "$target/release/tollgate" serve --config "$dir/config/gateway.toml"
