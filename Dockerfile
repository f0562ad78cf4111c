# The gateway in a small image. Configuration and tenants are mounted; state is a volume.
#   docker build -t tollgate .
#   docker run -p 443:8443 -v ./config:/etc/tollgate/config:ro -v ./tenants:/etc/tollgate/tenants:ro -v state:/var/lib/tollgate tollgate
FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY gateway gateway
COPY tests tests
RUN cargo build --release --locked -p gateway --bin tollgate

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/tollgate --create-home tollgate
COPY --from=build /src/target/release/tollgate /usr/local/bin/tollgate
USER tollgate
VOLUME /var/lib/tollgate
EXPOSE 8443 8080
# SIGTERM drains.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tollgate"]
CMD ["serve", "--config", "/etc/tollgate/config/gateway.toml", "--state", "/var/lib/tollgate", \
     "--https", "0.0.0.0:8443", "--http", "0.0.0.0:8080"]
