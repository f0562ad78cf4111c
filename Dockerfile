# The gateway in a small image: distroless, no shell, no root, a root file system that may be read-only. Configuration and tenants are
# mounted; /state is the one volume.
#   docker build -t tollgate .              or, half as fast again or more when it runs, with --build-arg BUILD=pgo (an hour)
#   docker run --read-only --cap-drop=ALL --security-opt=no-new-privileges -p 443:8443 -p 80:8080 \
#     -v ./config:/etc/tollgate/config:ro -v ./tenants:/etc/tollgate/tenants:ro -v state:/state tollgate
# In there the gateway confines itself further, by landlock and seccomp: Docker's own profile of system calls lets it.
# On a host with swap, keep the container out of it, or each request costs more (W0504): --memory=4g --memory-swap=4g (as much as --memory);
# on Kubernetes nothing need be said, where the kubelet's swap is off or its pods may not use it.
FROM rust:1.95-bookworm AS build
WORKDIR /src
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
COPY . .
ARG BUILD=release
# What `tollgate --version` says: --build-arg COMMIT=$(git rev-parse --short=12 HEAD)
ARG COMMIT=
RUN if [ "$BUILD" = pgo ]; then rustup component add llvm-tools && rustup target add wasm32-wasip2 && make pgo COMMIT="$COMMIT"; else make build COMMIT="$COMMIT"; fi \
 && mkdir -p /out/state && cp "target/$BUILD/tollgate" /out/

# glibc, libgcc and certificates, and nothing else.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/tollgate /usr/local/bin/tollgate
COPY --from=build --chown=nonroot:nonroot --chmod=700 /out/state /state
USER nonroot
VOLUME /state
EXPOSE 8443 8080
# Redirects and Alt-Svc name the port of the outside, which -p maps: say another one with -e TOLLGATE_PUBLIC_HTTPS=8443.
ENV TOLLGATE_CONFIG=/etc/tollgate/config/gateway.toml TOLLGATE_STATE=/state TOLLGATE_PUBLIC_HTTPS=443
# SIGTERM drains.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s CMD ["tollgate", "status"]
ENTRYPOINT ["tollgate"]
CMD ["serve", "--https", "0.0.0.0:8443", "--http", "0.0.0.0:8080"]
