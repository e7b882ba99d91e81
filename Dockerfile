# Images of muster's programs, each a target: coordinator, worker, muster (the operator's tool, and the simulated Discord) and consumer
# (examples/consumer-go). Each holds one static binary, the CA certificates and an empty /data, and runs as a user without rights; there is
# no shell, and nothing but /data is ever written.
#
#   docker build --target worker --build-arg VERSION=$(git describe --tags --always) -t muster-worker .
#   docker buildx build --target worker --platform linux/amd64,linux/arm64 …

ARG GO_VERSION=1.26

# Go compiles for any platform on any other: only the results are of the target's.
FROM --platform=$BUILDPLATFORM golang:${GO_VERSION} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION TARGETOS TARGETARCH
# Nothing of the machine that builds, nor of the time, gets into the binaries: the same source and Go make the same bytes.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
      -ldflags "-s -w -X github.com/muster-gateway/muster/internal/config.version=$VERSION" \
      -o /out/ ./cmd/coordinator ./cmd/worker ./cmd/muster ./examples/consumer-go
RUN mkdir /data

FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build --chown=65532:65532 /data /data
USER 65532:65532

FROM base AS coordinator
COPY --from=build /out/coordinator /coordinator
EXPOSE 8080
HEALTHCHECK CMD ["/coordinator", "--check", "healthz"]
ENTRYPOINT ["/coordinator"]

FROM base AS worker
COPY --from=build /out/worker /worker
EXPOSE 8081
HEALTHCHECK CMD ["/worker", "--check", "healthz"]
ENTRYPOINT ["/worker"]

FROM base AS consumer
COPY --from=build /out/consumer-go /consumer
ENTRYPOINT ["/consumer"]

FROM base AS muster
COPY --from=build /out/muster /muster
ENTRYPOINT ["/muster"]
