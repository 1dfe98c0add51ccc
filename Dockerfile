# syntax=docker/dockerfile:1.7
# The program alone on a base without a shell: about 60 MB, runs as 65532, writes under /var/lib/laigu-router only.
#
#   docker build -t laigu-router .
#   docker run -v ./config:/etc/laigu-router:ro -v store:/var/lib/laigu-router -p 8080:8080 laigu-router
#
# ./config holds routes.yaml: a mounted file would be the old one after an editor has replaced it.
#
# For a release give both images by digest: --build-arg BUILD_IMAGE=rust@sha256:… --build-arg RUN_IMAGE=…@sha256:…
# The build image must have the version that rust-toolchain.toml names, and gcc, g++, make and perl.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-bookworm
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# The caches outlive a build: a changed source file compiles this package again, and no other.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --bin laigu-router \
    && cp target/release/laigu-router /laigu-router \
    && mkdir -p /empty

FROM ${RUN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="laigu-router" \
      org.opencontainers.image.description="Takes webhook pushes, keeps them durably, fans them out to RabbitMQ and Kafka" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /laigu-router /usr/local/bin/laigu-router
COPY --from=build /src/LICENSE /usr/share/doc/laigu-router/LICENSE
COPY --from=build --chown=65532:65532 /empty /var/lib/laigu-router
USER 65532:65532
WORKDIR /var/lib/laigu-router
ENV LAIGU_ROUTER_CONFIG=/etc/laigu-router/routes.yaml
VOLUME /var/lib/laigu-router
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Asks where `server.admin` of the file says.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/laigu-router", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/laigu-router"]
CMD ["serve"]
