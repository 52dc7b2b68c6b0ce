# The control plane: one program on glibc, no shell.
#   docker build --file deploy/tsunagi.Dockerfile --tag tsunagi .
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package tsunagi \
 && install -D --strip target/release/tsunagi /out/tsunagi \
 && install -d --owner=65532 --group=65532 /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/tsunagi /tsunagi
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV TSUNAGI_HTTP_ADDR=0.0.0.0:15014 TSUNAGI_GRPC_ADDR=0.0.0.0:15010 TSUNAGI_DATA_DIR=/data
EXPOSE 15010 15014 15017
VOLUME /data
ENTRYPOINT ["/tsunagi"]
CMD ["serve"]
