# The sidecar. Linked to glibc, not static: its allocator serves two busy workers much faster than musl's.
#   docker build --file deploy/tsunagi-proxy.Dockerfile --tag tsunagi-proxy .
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package tsunagi-proxy \
 && install -D --strip target/release/tsunagi-proxy /out/tsunagi-proxy \
 && install -d --owner=1337 --group=1337 /out/state

FROM gcr.io/distroless/cc-debian12
COPY --from=build /out/tsunagi-proxy /tsunagi-proxy
COPY --from=build --chown=1337:1337 /out/state /state
# The user whose own traffic redirection leaves alone.
USER 1337:1337
ENV TSUNAGI_STATE_DIR=/state
EXPOSE 15001 15006 15021 15090
ENTRYPOINT ["/tsunagi-proxy"]
CMD ["run"]
