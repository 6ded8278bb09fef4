#!/bin/sh
# Makes the namespace TEMPORAL_NAMESPACE of the server TEMPORAL_ADDRESS where it is missing. A server that has just
# started may not answer yet, so it is asked for a minute.
set -eu

tries=30
until temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
    temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE"; do
    tries=$((tries - 1))
    if [ "$tries" -eq 0 ]; then
        echo "the namespace $TEMPORAL_NAMESPACE could not be made at $TEMPORAL_ADDRESS" >&2
        exit 1
    fi
    sleep 2
done
echo "The namespace $TEMPORAL_NAMESPACE is there."
