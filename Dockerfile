# The gateway in a small image: distroless, without shell or root, with a root file system that may be read-only. You mount the
# configuration and the tenants; /state is the only volume.
#   docker build -t tollgate .              with --build-arg BUILD=pgo it takes an hour, and serves 1.5 to 2 times as many requests/s
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges -p 443:8443 -p 80:8080 \
#     -v ./config:/etc/tollgate/config:ro -v ./tenants:/etc/tollgate/tenants:ro -v state:/state tollgate
# The gateway confines itself further by landlock and seccomp, which Docker's own seccomp profile allows.
# On a host with swap, keep the container out of it, or each request costs more (W0504): give --memory-swap the value of --memory, for example
# --memory=4g --memory-swap=4g. On Kubernetes nothing is needed if the kubelet's swap is off or pods may not use it.
FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
COPY . .
ARG BUILD=release
# What `tollgate --version` says: --build-arg COMMIT=$(git rev-parse --short=12 HEAD)
ARG COMMIT=
RUN if [ "$BUILD" = pgo ]; then rustup component add llvm-tools && rustup target add wasm32-wasip2 && make pgo COMMIT="$COMMIT"; else make build COMMIT="$COMMIT"; fi \
 && mkdir -p /out/state && cp "target/$BUILD/tollgate" /out/

# The base has glibc, libgcc and certificates, and nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/tollgate /usr/local/bin/tollgate
COPY --from=build --chown=nonroot:nonroot --chmod=700 /out/state /state
USER nonroot
VOLUME /state
EXPOSE 8443 8080
# Redirects and Alt-Svc name the outside port, which -p maps. Set another one with -e TOLLGATE_PUBLIC_HTTPS=8443.
ENV TOLLGATE_CONFIG=/etc/tollgate/config/gateway.toml TOLLGATE_STATE=/state TOLLGATE_PUBLIC_HTTPS=443
# SIGTERM drains the gateway.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["tollgate", "status"]
ENTRYPOINT ["tollgate"]
CMD ["serve", "--https", "0.0.0.0:8443", "--http", "0.0.0.0:8080"]
