# The control plane: one static binary and nothing else.
#   docker build --file deploy/tsunagi.Dockerfile --tag tsunagi .
FROM rust:1.95-slim-bookworm AS build
ARG TARGETARCH=amd64
WORKDIR /src
RUN case "$TARGETARCH" in arm64) echo aarch64 ;; *) echo x86_64 ;; esac > /arch \
 && rustup target add "$(cat /arch)-unknown-linux-musl"
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --package tsunagi --target "$(cat /arch)-unknown-linux-musl" \
 && install -D --strip "target/$(cat /arch)-unknown-linux-musl/release/tsunagi" /out/tsunagi \
 && install -d --owner=65532 --group=65532 /out/data

FROM scratch
COPY --from=build /out/tsunagi /tsunagi
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV TSUNAGI_HTTP_ADDR=0.0.0.0:15014 TSUNAGI_GRPC_ADDR=0.0.0.0:15010 TSUNAGI_DATA_DIR=/data
EXPOSE 15010 15014
VOLUME /data
ENTRYPOINT ["/tsunagi"]
CMD ["serve"]
