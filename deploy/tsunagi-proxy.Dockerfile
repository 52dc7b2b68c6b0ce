# The sidecar, and the init container that redirects a pod's traffic to it. Linked to glibc, not static: its allocator serves two busy
# workers much faster than musl's.
#   docker build --file deploy/tsunagi-proxy.Dockerfile --tag tsunagi-proxy .
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package tsunagi-proxy \
 && install -D --strip target/release/tsunagi-proxy /out/tsunagi-proxy \
 && install -d --owner=1337 --group=1337 /out/state

FROM debian:bookworm-slim
# nft, iptables of both kinds and ip: what the node's kernel has is used.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends nftables iptables iproute2 \
 && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log
COPY --from=build /out/tsunagi-proxy /usr/local/bin/tsunagi-proxy
COPY --from=build --chown=1337:1337 /out/state /state
# The user whose own traffic redirection leaves alone; the init container overrides it.
USER 1337:1337
ENV TSUNAGI_STATE_DIR=/state
EXPOSE 15001 15006 15021 15090
ENTRYPOINT ["/usr/local/bin/tsunagi-proxy"]
CMD ["run"]
